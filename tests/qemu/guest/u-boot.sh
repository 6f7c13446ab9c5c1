# The Linux that U-Boot booted: looks at the file that U-Boot wrote, and writes and verifies files of
# its own on the same file system.
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
mkdir -p /mnt
mount -t ext4 /dev/vda /mnt || stop "no mount"
dd if=/mnt/Image of=/tmp/first bs=1M count=1 2>/dev/null
cmp -s /tmp/first /mnt/copy && value copy_is_whole 1
n=0
while [ "$n" -lt 8 ]; do
    n=$((n + 1))
    pattern u-boot "$n" >"/mnt/round-$n"
    sync
    echo 3 >/proc/sys/vm/drop_caches
    pattern u-boot "$n" | cmp -s - "/mnt/round-$n" || stop "file $n reads as something else"
done
umount /mnt || stop "no umount"
value done "$n"
