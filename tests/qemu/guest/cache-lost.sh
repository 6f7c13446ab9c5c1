# Writes that were done and not flushed while the server that has them in its cache dies. dom0 stops this guest after
# each PF *_put. Then the guest reads what it wrote, and flushes twice. There is time to stop it wherever it sleeps.
. /guest/lib.sh
. /guest/disk.sh

# put TAG FIRST COUNT: so many blocks of 64 KiB from that one, each by a request of its own.
put() {
    block=$2
    while [ "$block" -lt $(($2 + $3)) ]; do
        pattern "$1" "$block" 65536 |
            dd of=/dev/vda bs=64k seek="$block" iflag=fullblock oflag=direct conv=notrunc 2>/dev/null || return 1
        block=$((block + 1))
    done
}

# same TAG FIRST COUNT: whether they read as they were written.
same() {
    block=$2
    while [ "$block" -lt $(($2 + $3)) ]; do
        dd if=/dev/vda bs=64k skip="$block" count=1 iflag=direct of=/tmp/got 2>/dev/null || return 1
        pattern "$1" "$block" 65536 | cmp -s - /tmp/got || return 2
        block=$((block + 1))
    done
}

# flush: of the disk alone.
flush() { dd if=/dev/null of=/dev/vda conv=notrunc,fsync 2>/dev/null; }

# part TAG FIRST COUNT
part() {
    put "$@"
    value "$1_put" $?
    sleep 3
    same "$@"
    value "$1_same" $?
    flush
    value "$1_flush" $?
    flush
    value "$1_again" $?
    sleep 3
}

wait_device /dev/vda 30 || stop "no /dev/vda"
value cache "$(cat /sys/block/vda/queue/write_cache)"
part lost 0 12
part long 16 64
part failed 96 12
part after 112 12
value done 1
