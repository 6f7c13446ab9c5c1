#!/bin/sh
# Process 1 of a guest that boots what debian-install.sh has installed.
/usr/bin/busybox mkdir -p /usr/local/bin
/usr/bin/busybox --install -s /usr/local/bin
export PATH=/usr/bin:/usr/sbin:/usr/local/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module.ko"
done </modules/list
tries=100
until [ -b /dev/vda ] || [ $tries -le 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
done
mkdir -p /new
mount -t ext4 /dev/vda /new
for dir in dev proc sys; do mount --move /$dir /new/$dir; done
exec switch_root /new /sbin/init
