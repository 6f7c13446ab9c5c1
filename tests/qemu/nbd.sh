# The data is on an NBD server (Debian's nbd-server, here in dom0), to which the stub connects over its own network
# interface. The server is killed and started again, it hangs, and the interface goes down, all under verified I/O. What
# cannot be served ends the guest's start with one line that names disk, server and reason.
. /pf/lib.sh
. /scenarios/checks.sh

pf_no_vifs() { [ -z "$(backends vif)" ] && ! ls -d /sys/class/net/vif* >/dev/null 2>&1; }
# no_network_left: no stub's network interface is left.
no_network_left() {
    wait_for 10 pf_no_vifs
    equal "no network interface is left" "" "$(backends vif)$(ls /sys/class/net | grep vif)"
}

# dhcp_start: starts a DHCP server on the bridge. It does not look long for another host with the address.
dhcp_start() {
    printf '%s\n' 'start 10.0.0.40' 'end 10.0.0.49' 'interface xenbr0' 'lease_file /run/udhcpd.leases' \
        'pidfile /run/udhcpd.pid' 'option subnet 255.255.255.0' 'option lease 600' >/run/udhcpd.conf
    : >/run/udhcpd.leases
    busybox udhcpd -a 1 /run/udhcpd.conf
}

begin
check "dom0 has a bridge for jumbo frames" eval 'network_start && ip link set xenbr0 mtu 9000'
image=$(raw_disk web 32)
golden=$(raw_disk golden 4)
nbd_export web "$image"
nbd_export golden "$golden" 'readonly = true'
check "an NBD server listens" nbd_start

# What cannot be.
disk_refused "a server that does not run" \
    'disk sda \(2048\): .*NBD server 10.0.0.1:10810: connection refused' "$(virtio_disk sda "$(server=10.0.0.1:10810 nbd_disk bad web)")"
disk_refused "an export that is not there" 'disk sda \(2048\): .*NBD server 10.0.0.1:10809: the server has no such export: export "none"' \
    "$(virtio_disk sda "$(nbd_disk bad none)")"
disk_refused "writing to a read-only export" 'disk sda \(2048\): .*NBD server 10.0.0.1:10809: the export is read-only' \
    "$(virtio_disk sda "$(nbd_disk bad golden)")"
disk_refused "a server whose host is not there" 'disk sda \(2048\): .*NBD server 10.0.0.77:10809: no answer' \
    "$(virtio_disk sda "$(server=10.0.0.77 nbd_disk bad web)")"
disk_refused "a server's name that nobody knows" 'disk sda \(2048\): .*the name no-such-host: cannot be looked up: ' \
    "$(virtio_disk sda "$(server=no-such-host nbd_disk bad web)")"
disk_refused "a bridge that is not there" 'bridge = "none0": dom0 has none of that name' \
    "$(virtio_disk sda "$(nbd_disk bad web 'bridge = "none0"')")"
disk_refused "an interface that is no bridge" 'bridge = "lo": dom0 has a network interface of that name, but it is no bridge' \
    "$(virtio_disk sda "$(nbd_disk bad web 'bridge = "lo"')")"
disk_refused "an address that nobody leases" 'disk sda \(2048\): .*no DHCP server leased an address on bridge xenbr0' \
    "$(virtio_disk sda "$(address=dhcp nbd_disk bad web)")"
no_network_left

# What can.
log_mark
extra="pf.rounds=30 pf.tag=web" check "xl create" start_guest web driver-domain \
    "$(virtio_disk xvda "$(nbd_disk web web 'mtu = 9000')")" "$(virtio_disk xvdb "$(nbd_disk golden golden 'mtu = 9000')" ro)"
fact stub_launch_ms "$(daemon_lines | sed -n 's/.* serves .* after \([0-9]*\) ms.*/\1/p')"
check "the guest does verified I/O" more_rounds web 2 60
stub=$(stub_of web)
interface=vif$(domid "$stub").0
[ ! -e /pf/xenpolicy ] || equal "its stub has the label of a stub" system_u:system_r:pf_stub_web_t "$(label_of "$stub")"
equal "its stub has no PV disk" "" "$(backends vbd)"
equal "and no loop device" 0 "$(count_loops)"
check "its network interface is on the bridge" test -e "/sys/class/net/xenbr0/brif/$interface"
equal "its frames are long" "9000 1" \
    "$(cat "/sys/class/net/$interface/mtu") $(xenstore-read "/local/domain/$(domid "$stub")/device/vif/0/feature-sg")"
fact stub_heap_peak_kib "$(xenstore-read "/local/domain/$(domid "$stub")/data/pilotfish/heap_peak_kib" 2>/dev/null)"
disk_refused "an address that is another stub's" "address = \"10.0.0.6\": domain $(domid "$stub") has it already" \
    "$(virtio_disk sda "$(nbd_disk bad golden)" ro)"

nbd_signal KILL
stands_still web 2
check "the server is started again" nbd_start
check "the guest goes on" more_rounds web 2 60
nbd_signal STOP
stands_still web 2
nbd_signal CONT
check "the guest goes on after the server hung" more_rounds web 2 60
ip link set "$interface" down
stands_still web 2
ip link set "$interface" up
check "the guest goes on after its interface was down" more_rounds web 2 60

tail -n 20 "$(guest_log "$stub")"
check "the guest is done" wait_guest_line web 'PF done=30' 90
check "it powers off" wait_gone web 30
equal "the guest saw no error" "" "$(guest_value web error)"
# What the killed server had not stored was written again.
equal "and no flush failed" 0 "$(guest_value web failures)"
check "the server's image holds what the guest wrote" image_holds "$image" web 30
nothing_left
no_network_left

# Over TLS, of which the scenario nbd-tls has more, from an address that is leased.
secret=$(raw_disk secret 1)
tls_keys other
tls_keys web
check "an NBD server with TLS listens" nbdkit_start 10811 --tls=require --tls-psk=/run/web.psk file "$secret"
disk_refused "a key that the server does not know" 'disk sda \(2048\): .*NBD server 10.0.0.1:10811: the server ended the TLS handshake' \
    "$(virtio_disk sda "$(server=10.0.0.1:10811 nbd_disk bad '' 'tls-psk-file = "/run/other.psk"')")"
check "a DHCP server starts" dhcp_start
check "xl create of a guest whose disk has TLS" start_frontend secret 'mode=crate tag=secret' \
    "$(virtio_disk xvda "$(address=dhcp server=10.0.0.1:10811 nbd_disk secret '' 'tls-psk-file = "/run/web.psk"')")"
check "its stub's address is leased" grep -q 'leased 10.0.0.4[0-9]/24' "$(guest_log "$(stub_of secret)")"
check "the guest is done" wait_guest_line secret 'PF \(done\|error\)=' 60
equal "every sector reads as it was written" 2048 "$(guest_value secret verified_sectors)"
no_key_left
check "it powers off" wait_gone secret 30
check "the server's image holds every sector" image_holds_sectors "$secret" secret 2048
nbdkit_signal TERM 10811
kill "$(cat /run/udhcpd.pid)"

# The end of a guest in the middle of it, with the usual frames, over IPv6. Nobody else is there to have the address.
for interface in all xenbr0; do echo 0 >/proc/sys/net/ipv6/conf/$interface/accept_dad; done
sed 's/^listenaddr.*/listenaddr = fd00::1/' /run/nbd.conf >/run/nbd6.conf
ip -6 addr add fd00::1/64 dev xenbr0 && nbd-server -C /run/nbd6.conf -p /run/nbd6.pid
check "a server listens at an IPv6 address" wait_for 5 grep -q ':2A39 .* 0A ' /proc/net/tcp6
check "xl create of a guest that writes" start_guest heavy heavy \
    "$(virtio_disk xvda "$(server='[fd00::1]' address=fd00::6/64 nbd_disk web web 'mtu = 1500')")"
check "the guest writes" more_rounds heavy 2 60
from=$(now_ms)
check "xl destroy" timeout 40 xl destroy heavy
fact destroy_ms $(($(now_ms) - from))
nothing_left
no_network_left
nbd_signal TERM
finish
