#!/bin/sh
# The init of a driver domain in the tests: dom0's own userland in an unprivileged guest, with
# Xen's `xl devd` attaching the block device that it has to other domains. That is its own disk, or, with
# pf.nbd=EXPORT on the kernel's command line, an export of the NBD server 10.0.0.1. With pf.serve=EXPORT it is an NBD
# server itself, whose export is its own disk. Then its address is pf.address=: of its network interface, or, with
# pf.netback, of a bridge xenbr0 for the interfaces of other domains.
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

# modules LIST: loads the modules of /modules/LIST in order.
modules() {
    while read -r module; do
        insmod "/modules/$module.ko" || echo "init: no module $module"
    done <"/modules/$1"
}

# await COMMAND...: until it succeeds, for 10 s at most.
await() {
    tries=100
    until "$@" || [ $tries -le 0 ]; do
        tries=$((tries - 1))
        sleep 0.1
    done
}

# option NAME: the value of pf.NAME= on the kernel's command line.
option() { tr ' ' '\n' </proc/cmdline | sed -n "s/^pf\.$1=//p"; }

modules list
mount -t xenfs xenfs /proc/xen

# sectors: how many the data have.
sectors() { blockdev --getsz $data 2>/dev/null || echo 0; }
has_data() { [ "$(sectors)" -gt 0 ]; }

# connect: this domain gets its address.
connect() {
    link=eth0
    ip link set lo up
    if grep -q -w pf.netback /proc/cmdline; then
        link=xenbr0
        modules network
        brctl addbr $link
    else
        modules network-storage
        await [ -e /sys/class/net/$link ]
    fi
    ip addr add "$(option address)/24" dev $link
    ip link set $link up
}

# serve EXPORT: an NBD server with the data under that name.
serve() {
    printf '[generic]\nlistenaddr = %s\nport = 10809\n' "$(option address)" >/run/nbd.conf
    printf '[%s]\nexportname = %s\nflush = true\nfua = true\ntrim = true\n' "$1" $data >>/run/nbd.conf
    nbd-server -C /run/nbd.conf -p /run/nbd-server.pid
    await grep -q ':2A39 .* 0A ' /proc/net/tcp
}

data=/dev/xvda
name=$(option nbd)
if [ -n "$name" ]; then
    data=/dev/nbd0
    connect
    # By its path: busybox, which this shell is of, has one of its own.
    /usr/bin/nbd-client -nonetlink -persist -name "$name" 10.0.0.1 $data
fi
# NBD's client is back before its device is.
await has_data
name=$(option serve)
if [ -n "$name" ]; then
    connect
    serve "$name"
fi
xl devd -F &
echo "PF driver=$(sectors)"
wait
