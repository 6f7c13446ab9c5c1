# Scenarios that have their disks on PV storage or on NBD servers in dom0 (bash). Source it after /scenarios/checks.sh.
#
# storage= says where: pv, which is what it is unless set; nbd, Debian's nbd-server; lossy, nbdkit with a write cache in
# its own memory. A lossy server that is killed loses everything that was not flushed, and nothing else.
# shellcheck shell=bash

storage=${storage:-pv}
rm -f /run/nbdkit.conf

# stored NAME IMAGE: the target of a disk with that image.
stored() {
    case $storage in
        pv) echo "$2" ;;
        nbd)
            nbd_export "$1" "$2"
            nbd_disk "$1" "$1"
            ;;
        lossy)
            echo "$2" >>/run/nbdkit.conf
            # Each server of nbdkit has one cache, so one image.
            server=10.0.0.1:$((10808 + $(wc -l </run/nbdkit.conf))) nbd_disk "$1" any
            ;;
    esac
}

# pf_listens PORT: whether a server of dom0 does, by the kernel's table.
pf_listens() { grep -q " 0100000A:$(printf %04X "$1") .* 0A " /proc/net/tcp; }

# nbdkit_start PORT ARGUMENT...: starts nbdkit there.
nbdkit_start() {
    local port=$1
    shift
    TMPDIR=/disks nbdkit -i 10.0.0.1 -p "$port" "$@" && wait_for 5 pf_listens "$port"
}

# storage_start: starts the servers that do not run.
storage_start() {
    local image port=10809
    [ "$storage" = pv ] || network_start || return 1
    case $storage in
        nbd) pf_listens 10809 || nbd_start || return 1 ;;
        lossy)
            while read -r image; do
                pf_listens $port || nbdkit_start $port --filter=cache file "$image" cache=writeback || return 1
                port=$((port + 1))
            done </run/nbdkit.conf
            ;;
    esac
}

pf_silent() { ! pf_listens 10809 && ! pf_listens 10810; }

# storage_kill: ends all servers at once, with what they have not written.
storage_kill() {
    case $storage in
        nbd) nbd_signal KILL ;;
        lossy) killall -KILL nbdkit ;;
    esac
    wait_for 5 pf_silent
}

# storage_settle: after a guest's end, until its image may be looked at: nothing of what it sent is still on its way, and
# what a lossy server has in its cache is gone.
storage_settle() {
    case $storage in
        nbd) sleep 1 ;;
        lossy) storage_kill ;;
    esac
}

# check_way GUEST COUNT: its stub has no PV disk but COUNT others, if the guest's data are on NBD servers.
check_way() {
    [ "$storage" != pv ] || return 0
    check "its stub has a network interface" test -e "/sys/class/net/vif$(domid "$(stub_of "$1")").0"
    equal "and as many PV disks as have no NBD server" "$2" "$(backends vbd | wc -l)"
}
