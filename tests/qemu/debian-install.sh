# What users do first: a guest installs a Debian onto its disk, which is a block device of dom0, and
# boots it. Then systemd runs, files are copied and compared, and compared again after a reboot.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk debian 1200)
loop=$(losetup -f --show "$image")
disks=("$(virtio_disk xvda "$loop")" "$(virtio_disk xvdb /guest/debian.img ro)")

from=$(now_ms)
vcpus=2 memory=512 check "xl create" start_guest debian debian-install "${disks[@]}"
check "every package is unpacked" wait_guest_line debian 'PF \(extracted=\|error=\)' 900
check "dpkg has installed them" wait_guest_line debian 'PF \(installed=\|error=\)' 1500
check "the guest powers off" wait_gone debian 60
equal "the guest saw no error" "" "$(guest_value debian error)"
equal "every package is installed" "$(guest_value debian extracted)" "$(guest_value debian installed)"
fact packages "$(guest_value debian installed)"
fact install_s $((($(now_ms) - from) / 1000))
[ "$pf_failures" = 0 ] || finish

from=$(now_ms)
vcpus=2 memory=512 extra=rdinit=/guest/debian-boot.sh check "xl create of what was installed" \
    start_guest debian none "${disks[@]}"
if wait_guest_line debian 'PF copied=' 600; then
    pass "it boots with systemd, copies its files and compares them"
else
    standstill debian copied
    die "it boots with systemd, copies its files and compares them"
fi
equal "they are the same" 0 "$(guest_value debian copied)"
check "it reboots and compares again" wait_guest_line debian 'PF kept=' 600
equal "they are the same" 0 "$(guest_value debian kept)"
equal "no unit failed" 0 "$(guest_value debian failed_units)"
equal "no error of the disk is in its kernel's log" 0 "$(guest_value debian disk_errors)"
check "it powers off" wait_gone debian 90
fact boots_s $((($(now_ms) - from) / 1000))
check "dom0 finds its file system clean" e2fsck -f -n "$loop"
losetup -d "$loop"
nothing_left
finish
