#!/bin/sh
# The init of a driver domain in the tests: dom0's own userland in an unprivileged guest, with
# Xen's `xl devd` attaching the block devices that it has to other domains.
version=$(/usr/local/bin/cat /pf/xen-version)
export PATH=/usr/bin:/usr/sbin:/usr/lib/xen-$version/bin:/usr/local/bin
export HOME=/root TERM=vt100 LC_ALL=C

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
mount -t tmpfs run /run
mkdir -p /run/xen /run/lock /var/log/xen
exec </dev/hvc0 >/dev/hvc0 2>&1

while read -r module; do
    insmod "/modules/$module.ko" || echo "init: no module $module"
done </modules/list
mount -t xenfs xenfs /proc/xen

tries=100
until [ -b /dev/xvda ] || [ $tries -le 0 ]; do
    tries=$((tries - 1))
    sleep 0.1
done
xl devd -F &
echo "PF driver=$(blockdev --getsz /dev/xvda)"
wait
