# Tells of each disk whether it discards, zeroes and takes writes, and tries to punch holes into it.
. /guest/lib.sh

wait_device /dev/vdd 30 || stop "no fourth disk"
# some KEY DISK: whether a limit of the disk's queue is more than 0.
some() { [ "$(cat "/sys/block/$2/queue/$1")" -gt 0 ] && echo 1 || echo 0; }
for disk in vda vdb vdc vdd; do
    written=0
    if yes "written" | head -c 65536 | dd of="/dev/$disk" bs=64k seek=8 oflag=direct conv=notrunc,fsync 2>/dev/null; then
        written=1
    fi
    value "$disk" "discard=$(some discard_max_bytes "$disk") zeroes=$(some write_zeroes_max_bytes "$disk") ro=$(cat "/sys/block/$disk/ro") written=$written"
    # By their paths: the shell prefers applets of its own, which know less.
    /usr/bin/blkdiscard -o 1048576 -l 1048576 "/dev/$disk" 2>/dev/null
    /usr/bin/fallocate -p -o 2097152 -l 1048576 "/dev/$disk" 2>/dev/null
done
sync
value done 1
