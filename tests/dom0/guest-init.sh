#!/bin/sh
# A guest's init: mounts, modules, then the scenario that pf.run= names.
/usr/bin/busybox mkdir -p /usr/local/bin
/usr/bin/busybox --install -s /usr/local/bin
export PATH=/usr/bin:/usr/sbin:/usr/local/bin HOME=/root TERM=vt100

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
while read -r module; do
    insmod "/modules/$module.ko" || echo "init: no module $module"
done </modules/list

scenario=shell
for word in $(cat /proc/cmdline); do
    case $word in pf.run=*) scenario=${word#pf.run=} ;; esac
done
exec </dev/hvc0 >/dev/hvc0 2>&1
echo "PF boot=$scenario"
if [ -f "/guest/$scenario.sh" ]; then
    sh "/guest/$scenario.sh"
    echo "PF exit=$?"
else
    echo "A guest of Pilotfish. Its disks:"
    ls -l /dev/vd* /dev/xvd* 2>/dev/null
    PS1='guest# ' setsid cttyhack sh
fi
poweroff -f
