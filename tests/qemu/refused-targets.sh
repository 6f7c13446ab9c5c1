# What must not be attached is not: each start fails soon, with one line that names the disk as the
# guest's configuration does, the path, and what is wrong; nothing is changed, nothing is left.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# refused WHAT PATTERN TARGET [DISK]: a guest with that disk does not start, and the log says why.
refused() {
    disk_refused "$1" "disk sda \(2048\).*$3.*($2)|disk sda \(2048\): ($2)" "${4:-$(virtio_disk sda "$3")}"
}

# An image that nobody may write, as people protect a golden one.
image=$(raw_disk golden 4)
yes "do not change me" | head -c 4194304 | dd of="$image" conv=notrunc 2>/dev/null
chmod 0444 "$image"
sum=$(md5sum <"$image")
refused "a write-protected image" 'write-protected \(mode 0444\)' "$image"
# Through a disk file, it is the file that the user wrote.
printf 'storage = "pv"\ntarget = "%s"\n' "$image" >/disks/golden.pilotfish
refused "a write-protected image behind a disk file" "$image: write-protected" /disks/golden.pilotfish

loop=$(losetup -r -f --show "$image") || die "no read-only loop device"
refused "a read-only device" 'read-only device' "$loop"
losetup -d "$loop"

mkdir -p /run/sealed
mount -t tmpfs -o size=4m sealed /run/sealed
dd if=/dev/zero of=/run/sealed/a.img bs=1M count=1 2>/dev/null
mount -o remount,ro /run/sealed || die "no read-only file system"
refused "an image on a read-only file system" 'Read-only file system' /run/sealed/a.img
umount /run/sealed

# Devices that cannot be used, or not whole.
mknod /disks/dead b 240 0
refused "a device without a driver" 'No such device or address' /disks/dead
refused "a device with nothing behind it" 'length of 0 bytes' "$(losetup -f)"
dd if=/dev/zero of=/disks/odd.img bs=512 count=0 seek=8195 2>/dev/null
loop=$(losetup -b 4096 -f --show /disks/odd.img) || die "no loop device with blocks of 4096 bytes"
refused "a device that ends within a block" 'length of 4195840 bytes: no multiple of its blocks of 4096' "$loop"
losetup -d "$loop"

# What dom0 uses: a mount with a name that is escaped in proc, a partition of the disk, swap.
image=$(raw_disk mounted 32)
mkfs.ext4 -q -F "$image" || die "mkfs"
mkdir -p "/run/a b"
mount -o loop "$image" "/run/a b" || die "mount"
refused "an image that dom0 has mounted" 'in use by dom0, mounted at /run/a b' "$image"
refused "an image that dom0 writes, for reading" 'in use by dom0, mounted at' "$image" "$(virtio_disk sda "$image" ro)"
umount "/run/a b"

whole=$(raw_disk whole 32)
# A partition of 16 MiB from 1 MiB on.
{ head -c 446 /dev/zero; printf '\0\0\0\0\203\0\0\0\0\010\0\0\0\200\0\0'; head -c 48 /dev/zero; printf '\125\252'; } |
    dd of="$whole" conv=notrunc 2>/dev/null
loop=$(losetup -P -f --show "$whole") || die "no loop device with partitions"
wait_for 5 test -b "${loop}p1" || die "no partition of $loop"
mkfs.ext4 -q -F "${loop}p1" && mount "${loop}p1" /mnt || die "no file system on ${loop}p1"
refused "a disk with a mounted partition" 'in use by dom0, mounted at /mnt' "$loop"
refused "the image behind it" 'in use by dom0, mounted at /mnt' "$whole"
umount /mnt
check "the file system is as it was" e2fsck -f -n "${loop}p1"
mkswap "${loop}p1" >/dev/null && swapon "${loop}p1" || die "no swap on ${loop}p1"
refused "a disk with swap on it" 'in use by dom0, as swap' "$loop"
swapoff "${loop}p1"

# Another domain's, by whichever device it has it.
paused=1 check "a guest has the partition as a PV disk" start_frontend other '' "$(pv_disk xvda "${loop}p1")"
refused "another domain's partition" "in use by domain $(domid other) \(other\) as its disk xvda \(51712\)" "${loop}p1"
refused "the disk that it is of" "in use by domain $(domid other) \(other\)" "$loop"
xl destroy other
no_domains 20
losetup -d "$loop"

# Grants for the disk would make a guest's kernel look for what a stub does not have. Xen 4.17 does
# not know the word.
if [ "$(cat /pf/xen-version)" != 4.17 ]; then
    refused "grant_usage=1" 'grant_usage=1: ' "$image" "$(virtio_disk sda "$image" | sed 's/,target=/,grant_usage=1,target=/')"
fi

equal "the protected image is as it was" "$sum" "$(md5sum <"$(dirname "$image")/golden.img")"
nothing_left
finish
