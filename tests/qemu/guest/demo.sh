# The guest of the demonstration: two boots on the same disk, then power off.
# First boot: file system, files, remount with dropped caches, verify, reboot.
# Second boot: verify what the first one left. pf.disk= and pf.ram= name the disks.
. /guest/lib.sh

disk=vda
ram=
for word in $(cat /proc/cmdline); do
    case $word in
        pf.disk=*) disk=${word#pf.disk=} ;;
        pf.ram=*) ram=${word#pf.ram=} ;;
    esac
done

# fill DIR: files of many sizes with content that differs in every block; their
# checksums in a list beside them.
fill() {
    mkdir "$1/files"
    n=0
    for size in 1 511 512 513 4095 4096 4097 65536 1048576 3000001; do
        n=$((n + 1))
        head -c "$size" /dev/urandom >"$1/files/$n"
    done
    (cd "$1/files" && sha256sum ./* >../sums)
}

verify() { (cd "$1/files" && sha256sum -c -s ../sums); }

remount() {
    sync
    umount "$2" || stop "cannot unmount $2"
    echo 3 >/proc/sys/vm/drop_caches
    mount -t ext4 "/dev/$1" "$2" || stop "cannot mount $1 again"
}

value kernel "$(uname -r)"
wait_device "/dev/$disk" 30 || stop "no /dev/$disk"
value seen_ms "$(seen_ms "$disk")"
value sectors "$(cat "/sys/block/$disk/size")"
mkdir -p /mnt/disk /mnt/ram

if mount -t ext4 "/dev/$disk" /mnt/disk 2>/dev/null; then
    value boots 2
    verify /mnt/disk || stop "the files changed over the reboot"
    value verified_after_reboot 1
    echo "second boot" >/mnt/disk/second
    umount /mnt/disk || stop "cannot unmount"
    e2fsck -f -n "/dev/$disk" >/dev/null 2>&1 || stop "the file system is damaged"
    value clean 1
    poweroff -f
fi

value boots 1
mkfs.ext4 -q -F "/dev/$disk" || stop "mkfs failed"
mount -t ext4 "/dev/$disk" /mnt/disk || stop "cannot mount"
fill /mnt/disk
remount "$disk" /mnt/disk
verify /mnt/disk || stop "the files changed over the remount"
value verified_after_remount 1
value written_bytes "$(cat /mnt/disk/files/* | wc -c)"

if [ -n "$ram" ]; then
    wait_device "/dev/$ram" 10 || stop "no /dev/$ram"
    mkfs.ext4 -q -F -O ^has_journal "/dev/$ram" || stop "mkfs on the RAM disk failed"
    mount -t ext4 "/dev/$ram" /mnt/ram || stop "cannot mount the RAM disk"
    mkdir /mnt/ram/files
    head -c 2000000 /dev/urandom >/mnt/ram/files/1
    (cd /mnt/ram/files && sha256sum ./* >../sums)
    remount "$ram" /mnt/ram
    verify /mnt/ram || stop "the RAM disk's files changed"
    umount /mnt/ram
    value verified_ram 1
fi

umount /mnt/disk || stop "cannot unmount"
sync
reboot -f
