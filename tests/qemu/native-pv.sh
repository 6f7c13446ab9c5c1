# Xen's own PV disk, no stub at all: shows that the fixtures work, so that a failure
# elsewhere is ours. The guest makes a file system, reboots, verifies, powers off.
. /pf/lib.sh

image=$(raw_disk native 96)
extra='pf.disk=xvda' start_guest native demo "$(pv_disk xvda "$image")" || die "xl create"
pass "xl create"
wait_guest_line native 'PF verified_after_remount=1' 180 || die "no verification after the remount"
wait_guest_line native 'PF boots=2' 180 || die "no second boot"
wait_guest_line native 'PF clean=1' 180 || die "no verification after the reboot"
check "the guest powers off" wait_gone native 60
equal "the guest saw no error" "" "$(guest_value native error)"
check "dom0 is alone" no_domains 10
equal "no zombie" 0 "$(count_zombies)"
check "the backing image mounts" mount -o loop "$image" /mnt
check "the backing image holds the same files" sh -c 'cd /mnt/files && sha256sum -c ../sums >/dev/null'
umount /mnt
fact guest_kernel "$(guest_value native kernel)"
finish
