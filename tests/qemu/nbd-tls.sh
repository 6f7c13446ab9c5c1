# A disk of an NBD server with TLS and a pre-shared key (nbdkit with GnuTLS, in dom0). What cannot be served ends the
# guest's start with one line. A server that is killed and started again costs only time, and one that comes back
# without TLS is not used. That nothing goes in clear is tested on the host (backend/tests/nbd/tls.rs).
. /pf/lib.sh
. /scenarios/checks.sh

# serve: the server, with TLS and the key.
serve() { nbdkit_start 10809 --tls=require --tls-psk=/run/web.psk file "$image"; }
# secure [FILE]: the line of a disk file.
secure() { echo "tls-psk-file = \"${1:-/run/web.psk}\""; }
# refused WHAT WHY SERVER [LINE...]: a disk on that server, with these lines, is refused.
refused() {
    local what=$1 why=$2 server=$3
    shift 3
    disk_refused "$what" "disk sda \\(2048\\): .*$why" "$(virtio_disk sda "$(server=$server nbd_disk bad '' "$@")")"
}

begin
check "dom0 has a bridge" network_start
image=$(raw_disk web 32)
tls_keys other
tls_keys web
check "a server with TLS listens" serve
check "a server without TLS listens" nbdkit_start 10812 --tls=off memory 4M

# What cannot be.
by=10.0.0.1:10809
refused "a key that the server does not know" "NBD server $by: the server ended the TLS handshake" "$by" "$(secure /run/other.psk)"
sed 's/^web:/other:/' /run/web.psk >/run/renamed.psk && chmod 600 /run/renamed.psk
refused "an identity that it does not know" "NBD server $by: the server ended the TLS handshake" "$by" "$(secure /run/renamed.psk)"
refused "a disk without a key" "NBD server $by: the server requires TLS; set tls-psk-file" "$by"
refused "a server without TLS" 'NBD server 10.0.0.1:10812: the server does not offer TLS' 10.0.0.1:10812 "$(secure)"
refused "a file of keys that is not there" 'tls-psk-file = "/run/none.psk": No such file' "$by" "$(secure /run/none.psk)"
cat /run/web.psk /run/other.psk >/run/two.psk && chmod 644 /run/two.psk
refused "one that others can read" 'tls-psk-file = "/run/two.psk": others than its owner can read it' "$by" "$(secure /run/two.psk)"
chmod 600 /run/two.psk
refused "two keys without an identity" 'has several keys' "$by" "$(secure /run/two.psk)"
no_key_left

# What can.
log_mark
two="$(secure /run/two.psk)
tls-psk-identity = \"web\""
extra="pf.rounds=20 pf.tag=web" check "xl create" start_guest web driver-domain "$(virtio_disk xvda "$(nbd_disk web '' "$two")")"
fact stub_launch_ms "$(daemon_lines | sed -n 's/.* serves .* after \([0-9]*\) ms.*/\1/p')"
check "the guest does verified I/O" more_rounds web 2 60
stub=$(stub_of web)
fact stub_heap_peak_kib "$(xenstore-read "/local/domain/$(domid "$stub")/data/pilotfish/heap_peak_kib" 2>/dev/null)"
equal "no key is on a command line" "" "$(xl list -l | grep -c -e "$tls_key" | grep -v '^0$')"
no_key_left

nbdkit_signal KILL 10809
sleep 2
check "the server comes back without TLS" nbdkit_start 10809 --tls=off file "$image"
sleep 5
at=$(rounds_of web)
sleep 3
equal "the guest waits" "$at" "$(rounds_of web)"
nbdkit_signal KILL 10809
check "the server comes back with TLS" serve
check "the guest goes on" more_rounds web 2 60
tail -n 10 "$(guest_log "$stub")"
check "the guest is done" wait_guest_line web 'PF done=20' 120
check "it powers off" wait_gone web 30
equal "the guest saw no error" "" "$(guest_value web error)"
equal "and no flush failed" 0 "$(guest_value web failures)"
check "the server's image holds what the guest wrote" image_holds "$image" web 20
nothing_left

nbdkit_signal KILL 10809
nbdkit_signal KILL 10812
finish
