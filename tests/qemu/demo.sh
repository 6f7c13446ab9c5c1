# The demonstration, dom0's side: an unmodified guest with two disks of its stub, one
# stored in an image file, one in the stub's own memory. The file is reached through xen-blkback or, if /pf/storage says
# nbd, through an NBD server.
. /pf/lib.sh

image=$(raw_disk demo 96)
target=$image
if [ "$(cat /pf/storage 2>/dev/null)" = nbd ]; then
    nbd_export demo "$image"
    network_start && nbd_start || die "an NBD server in dom0"
    target=$(nbd_disk demo-nbd demo)
fi
memory_disk=$(ram_disk demo 8)
fact dom0_kernel "$(uname -r)"
fact xen_version "$(xl info | sed -n 's/^xen_version *: //p')"

extra='pf.disk=vda pf.ram=vdb' start_guest demo demo \
    "$(virtio_disk xvda "$target")" "$(virtio_disk xvdb "$memory_disk")" ||
    die "xl create of the guest"
pass "xl create of the guest"

guest=$(domid demo)
stub=$(domid "pilotfish-$guest")
[ -n "$stub" ] || die "no stub domain beside the guest"
pass "a stub domain stands beside the guest"
state=/local/domain/$stub/data/pilotfish
fact stub_ready_us "$(xenstore-read "$state/ready_us" 2>/dev/null)"
fact stub_memory_mib "$(xl list "$stub" | awk 'NR == 2 { print $3 }')"
fact stub_heap_peak_kib "$(xenstore-read "$state/heap_peak_kib" 2>/dev/null)"

wait_guest_line demo 'PF \(verified_after_remount=1\|error=\)' 180 || die "the guest went silent"
equal "the guest finds its files after a remount" 1 "$(guest_value demo verified_after_remount)"
wait_guest_line demo 'PF \(boots=2\|error=\)' 180 || die "no second boot"
equal "the RAM disk keeps its files" 1 "$(guest_value demo verified_ram)"
second=$(domid demo)
second_stub=$(domid "pilotfish-$second")
check "the reboot brought a new domain" test "$second" != "$guest"
check "and a new stub" test -n "$second_stub" -a "$second_stub" != "$stub"
wait_guest_line demo 'PF \(clean=1\|error=\)' 180 || die "the guest went silent after its reboot"
equal "the guest finds its files after the reboot" 1 "$(guest_value demo verified_after_reboot)"
equal "its file system is clean" 1 "$(guest_value demo clean)"
equal "the guest saw no error" "" "$(guest_value demo error)"
check "the guest powers off" wait_gone demo 60
check "dom0 is alone again" no_domains 15
equal "no zombie is left" 0 "$(count_zombies)"
fact stubs_left_after_poweroff "$(count_stubs)"

for key in kernel seen_ms written_bytes verified_after_remount verified_after_reboot verified_ram; do
    fact "guest_$key" "$(guest_value demo "$key")"
done

# The guest is gone: what does the image itself hold?
if mount -o loop,ro "$image" /mnt; then
    files=$(cd /mnt/files && sha256sum -c ../sums 2>/dev/null | grep -c ': OK$')
    equal "dom0 finds the same files in the backing image" "$(wc -l </mnt/sums)" "$files"
    equal "and what the second boot wrote" "second boot" "$(cat /mnt/second)"
    fact files_in_backend "$files"
    umount /mnt
else
    fail "the backing image does not mount"
fi
finish
