# The data are on the network: a driver domain has a PV network interface to dom0's bridge and Linux's own NBD client,
# and its block device is the guest's disk. The server hangs, the network is cut, the server is killed, and the
# driver domain is killed and made again, each under verified I/O.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/driver-domains.sh

# failures_of NAME: how many of its rounds failed at first.
failures_of() { grep -c 'PF failed:' "$(guest_log "$1")"; }

# dom0_connects: dom0 gets the export near as /dev/nbd0.
dom0_connects() {
    load_modules network-storage && wait_for 5 nbd-client -name near 10.0.0.1 /dev/nbd0
}

begin
check "dom0 has a bridge" network_start
image=$(raw_disk remote 32)
nbd_export remote "$image"
nbd_export near "$(raw_disk near 32)"
check "dom0 has an NBD server" nbd_start
driver_config "vif = [ 'bridge=xenbr0' ]" "pf.nbd=remote pf.address=10.0.0.2"
start_driver 65536
extra="pf.rounds=1000 pf.tag=remote pf.tries=300" check "xl create" \
    start_guest remote driver-domain "$(virtio_disk xvda "$(far_disk remote /dev/nbd0)")"
check "the guest does verified I/O" more_rounds remote 2 60
stub=$(stub_of remote)

check "the server hangs" nbd_signal STOP
stands_still remote 5 "for the server"
check "the server goes on" nbd_signal CONT
check "so does the guest" more_rounds remote 2 60
check "the network is cut" ip link set xenbr0 down
stands_still remote 5 "for the network"
check "the network is back" ip link set xenbr0 up
check "the guest goes on again" more_rounds remote 2 60
equal "no request of the guest failed so far" 0 "$(failures_of remote)"

check "the driver domain is killed" xl destroy driver
stands_still remote 3 "for a driver domain"
start_driver 65536
attach_again "$stub" /dev/nbd0
check "the guest goes on with the new one" more_rounds remote 2 60
check "but for one failed flush at most" test "$(failures_of remote)" -le 1

before=$(failures_of remote)
check "the server is killed" nbd_signal KILL
sleep 5
check "it is started again" nbd_start
# What Linux's client makes of it is told, not judged.
if more_rounds remote 2 20; then fact goes_on_after_server_kill yes; else fact goes_on_after_server_kill no; fi
fact failed_at_server_kill $(($(failures_of remote) - before))
tail -n 30 "$(guest_log driver)" "$(guest_log remote)" "$(guest_log "$stub")"

check "the driver domain is killed again" xl destroy driver
start_driver 65536
attach_again "$stub" /dev/nbd0
check "the guest goes on with that one" more_rounds remote 2 60
fact failed_in_all "$(failures_of remote)"
equal "the guest saw no other error" "" "$(guest_value remote error)"
rounds=$(rounds_of remote)
check "the guest is destroyed" timeout 60 xl destroy remote
check "the driver domain ends" xl destroy driver
# The round after the last that was reported may have overwritten the oldest place.
check "the server's image holds what the guest wrote" image_holds "$image" remote "$rounds" 14

# Without a driver domain: Linux's client in dom0, whose device is the target.
check "dom0 connects to the server itself" dom0_connects
extra="pf.rounds=4 pf.tag=near" check "a guest starts on that device" \
    start_guest near rounds "$(virtio_disk xvda /dev/nbd0)"
check "it verifies its rounds" wait_guest_line near 'PF done=4' 60
check "it powers off" wait_gone near 30
check "the server's image holds what it wrote" image_holds /disks/near.img near 4
check "dom0 disconnects" nbd-client -d /dev/nbd0
nbd_signal KILL
nothing_left
finish
