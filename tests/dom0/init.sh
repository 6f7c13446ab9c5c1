#!/bin/sh
# dom0's init: mounts, modules, Xen's own daemons, then pilotfishd, then the agent.
# /pf/xenpolicy is a FLASK policy to load. pf.daemon=off on the kernel's command line leaves pilotfishd out.

/usr/bin/busybox mkdir -p /usr/local/bin
/usr/bin/busybox --install -s /usr/local/bin
version=$(/usr/local/bin/cat /pf/xen-version)
# Real programs first, busybox for the rest.
export PATH=/usr/bin:/usr/sbin:/usr/lib/xen-$version/bin:/usr/local/bin
export HOME=/root TERM=vt100 LC_ALL=C

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
# Without udev nobody else makes these; Xen's block script wants /dev/fd.
ln -sf /proc/self/fd /dev/fd
ln -sf fd/0 /dev/stdin
ln -sf fd/1 /dev/stdout
ln -sf fd/2 /dev/stderr
mount -t tmpfs run /run
mount -t tmpfs -o size=75% disks /disks
mkdir -p /run/xen /run/xenstored /run/lock /var/log/xen/console
dmesg -n 4

while read -r module; do
    insmod "/modules/$module.ko" || echo "init: no module $module"
done </modules/list
mount -t xenfs xenfs /proc/xen

xenstored --pid-file /run/xenstored.pid
tries=0
until xenstore-exists / 2>/dev/null || [ $tries -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
xen-init-dom0
xenconsoled --pid-file=/run/xenconsoled.pid --log=all --log-dir=/var/log/xen/console

if [ -e /pf/xenpolicy ]; then
    xl loadpolicy /pf/xenpolicy || echo "init: the policy does not load"
fi

case " $(cat /proc/cmdline) " in
    *" pf.daemon=off "*) ;;
    *) . /pf/lib.sh && daemon_start ;;
esac

exec /bin/sh /pf/agent.sh </dev/hvc0 >/dev/hvc0 2>&1
