#!/bin/sh
# Process 1 of the crash kernel that guest/kexec.sh loads: takes the disk that the first kernel
# left busy, does verified rounds on it, and leaves what came of it in MiB 20.
/usr/bin/busybox mkdir -p /usr/local/bin
/usr/bin/busybox --install -s /usr/local/bin
export PATH=/usr/bin:/usr/sbin:/usr/local/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/list
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || poweroff -f
n=0
while [ $n -lt 24 ]; do
    round_at vda second $((n + 1)) $((128 + (n + 1) % 8 * 16)) 16 || break
    n=$((n + 1))
done
{ echo "second kernel: $n rounds"; dd if=/dev/zero bs=1M count=1 2>/dev/null; } | head -c 4096 >/tmp/mark
dd if=/tmp/mark of=/dev/vda bs=4096 seek=$((20 * 256)) oflag=direct conv=notrunc,fsync 2>/dev/null
poweroff -f
