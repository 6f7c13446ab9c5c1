# What stands on dom0's disks is not pulled away from below it: btrfs (whose mount names no device), a
# device-mapper volume as LVM makes them, and an md array. What such a stack makes is a disk like any other.
. /pf/lib.sh
. /scenarios/checks.sh

begin
mkdir -p /tools
mount -o loop,ro /guest/tools.img /tools || die "the tools' image does not mount"
for at in proc sys dev; do mount --bind /$at /tools/$at; done
mount -t tmpfs tmp /tools/tmp
while read -r module; do insmod "/tools/modules/$module.ko" 2>/dev/null; done </tools/modules/stack
tool() { chroot /tools "/usr/bin/$@"; }

# refused WHAT PATTERN TARGET: a guest with that disk does not start, for dom0 uses it like PATTERN.
refused() { disk_refused "$1" "disk sda \(2048\): $3: in use by dom0, ($2)" "$(virtio_disk sda "$3")"; }
# taken WHAT TARGET: a guest works on that disk.
taken() {
    extra='pf.rounds=1 pf.tag=stacked' check "$1 is taken" start_guest stacked rounds "$(virtio_disk xvda "$2")"
    check "its guest is done" wait_guest_line stacked 'PF done=1' 60
    check "and powers off" wait_gone stacked 30
    equal "it saw no error" "" "$(guest_value stacked error)"
}

image=$(raw_disk btrfs 128)
loop=$(losetup -f --show "$image") || die "no loop device"
tool mkfs.btrfs -q -M "$loop" || die "mkfs.btrfs"
mount -t btrfs "$loop" /mnt || die "no btrfs"
check "the mount names no device's number" grep -q ' 0:[0-9]* / /mnt .* btrfs ' /proc/self/mountinfo
refused "a device with btrfs on it" 'mounted at /mnt' "$loop"
refused "the image behind it" 'mounted at /mnt' "$image"
umount /mnt
taken "the same device, unmounted" "$loop"
losetup -d "$loop"

image=$(raw_disk volume 32)
loop=$(losetup -f --show "$image") || die "no loop device"
tool dmsetup create volume --noudevsync --table "0 32768 linear $loop 2048" || die "dmsetup create"
# There is no udev that gives it its name.
[ -b /dev/dm-0 ] || die "no /dev/dm-0"
refused "a device with a volume on it" 'where dm-0 stands on it; remedy: vgchange -an' "$loop"
refused "the image behind it" 'where dm-0 stands on it' "$image"
taken "the volume" /dev/dm-0
tool dmsetup remove --noudevsync volume
losetup -d "$loop"

image=$(raw_disk array 32)
loop=$(losetup -f --show "$image") || die "no loop device"
tool mdadm --build /dev/md0 --level=1 --raid-devices=2 --force "$loop" missing 2>/run/mdadm.out ||
    die "mdadm --build: $(cat /run/mdadm.out)"
refused "a device with an array on it" 'where md0 stands on it; remedy: mdadm --stop' "$loop"
refused "the image behind it" 'where md0 stands on it' "$image"
taken "the array" /dev/md0
tool mdadm --stop /dev/md0 2>/dev/null
losetup -d "$loop"

umount /tools/tmp /tools/proc /tools/sys /tools/dev /tools
nothing_left
finish
