# The NBD server of a stub is in a driver domain, whose data are its own disk. First both have a network interface on dom0's
# bridge. The driver domain is paused, killed and made again under verified I/O; the new one has another MAC address. Then
# the driver domain has the bridge too, and its netback serves the stub's interface: dom0 sees no packet.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/driver-domains.sh

# mac_of NAME: the MAC address of a domain's first network interface.
mac_of() { xl network-list "$1" | awk 'NR == 2 { print $3 }'; }

# disk LINE...: the target of the guest's disk.
disk() { server=10.0.0.2 nbd_disk web web "$@"; }

# paused: the driver domain is, for a while.
paused() {
    check "the driver domain is paused" xl pause driver
    stands_still web 5 "for the paused one"
    check "it runs again" xl unpause driver
    check "the guest goes on" more_rounds web 2 60
}

# over ROUNDS: the guest is done with them and goes; its data are there.
over() {
    check "the guest is done" wait_guest_line web "PF done=$1" 120
    check "it powers off" wait_gone web 30
    equal "the guest saw no error" "" "$(guest_value web error)"
    # What the dead server had not stored was written again.
    equal "and no flush failed" 0 "$(guest_value web failures)"
    check "the driver domain ends" xl destroy driver
    check "its disk holds what the guest wrote" image_holds "$image" web "$1"
}

begin
check "dom0 has a bridge" network_start
image=$(raw_disk served 32)
own="disk = [ '$(pv_disk xvda "$image")' ]"
driver_config "$own
vif = [ 'bridge=xenbr0' ]" "pf.serve=web pf.address=10.0.0.2"
start_driver 65536
mac=$(mac_of driver)
extra="pf.rounds=40 pf.tag=web" check "xl create" start_guest web driver-domain "$(virtio_disk xvda "$(disk)")"
check "the guest does verified I/O" more_rounds web 2 60
equal "dom0 has no storage backend but the driver domain's" "$(domid driver)/51712" "$(backends vbd | tr '\n' ' ' | sed 's/ $//')"
paused
for _ in 1 2; do
    check "the driver domain is killed" xl destroy driver
    stands_still web 3 "for a driver domain"
    start_driver 65536
    check "the guest goes on with the new one" more_rounds web 2 60
done
check "which has another MAC address" test "$mac" != "$(mac_of driver)"
tail -n 20 "$(guest_log "$(stub_of web)")"
over 40
nothing_left

driver_config "$own" "pf.serve=web pf.address=10.0.0.2 pf.netback"
start_driver 65536
extra="pf.rounds=10 pf.tag=web" check "xl create of a guest whose stub's netback is there" \
    start_guest web driver-domain "$(virtio_disk xvda "$(disk 'network-backend = "driver"')")"
check "the guest does verified I/O" more_rounds web 2 60
equal "dom0 serves no network interface" "" "$(backends vif)$(ls /sys/class/net | grep vif)"
paused
tail -n 20 "$(guest_log driver)"
over 10
nothing_left
finish
