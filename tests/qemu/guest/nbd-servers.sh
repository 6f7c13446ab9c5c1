# Three disks on NBD servers that are peculiar, by pf.part= others; see dom0's side. PF want=... tells dom0 what comes next.
. /guest/lib.sh
. /guest/disk.sh

# put DISK BLOCK, get DISK BLOCK: writes 64 KiB; reads and compares them.
put() { pattern "$1" "$2" 65536 | dd of="/dev/$1" bs=64k seek="$2" iflag=fullblock oflag=direct conv=notrunc 2>/dev/null; }
get() {
    dd if="/dev/$1" of=/tmp/got bs=64k skip="$2" count=1 iflag=direct 2>/dev/null || return 1
    pattern "$1" "$2" 65536 | cmp -s - /tmp/got || return 2
}

# turns STATUS COMMAND...: tries until the command has that status; 1 if that takes too long.
turns() {
    wanted=$1
    shift
    tries=0
    while :; do
        "$@"
        [ $? != "$wanted" ] || return 0
        tries=$((tries + 1))
        [ $tries -lt 60 ] || return 1
        sleep 0.5
    done
}

# large DISK: a MiB in one request, flushed, read and compared.
large() {
    pattern "$1" 99 >/tmp/large
    dd if=/tmp/large of="/dev/$1" bs=1M seek=1 oflag=direct conv=notrunc,fsync 2>/dev/null || return 1
    dd if="/dev/$1" of=/tmp/got bs=1M skip=1 count=1 iflag=direct 2>/dev/null || return 2
    cmp -s /tmp/large /tmp/got || return 3
}

# small DISK: 512 bytes within a larger block, through the page cache.
small() {
    pattern small 1 512 | dd of="/dev/$1" bs=512 seek=3 conv=notrunc,fsync 2>/dev/null || return 1
    dd if="/dev/$1" of=/tmp/got bs=4096 count=1 iflag=direct 2>/dev/null || return 2
    pattern small 1 512 >/tmp/small
    dd if=/tmp/got bs=512 skip=3 count=1 2>/dev/null | cmp -s - /tmp/small || return 3
}

# Slow: its requests wait for each other no longer than the server makes them, and nobody else waits for them.
slow() {
    from=$(uptime_ms)
    (
        n=0
        while [ ! -e /tmp/slow_done ]; do
            n=$((n + 1))
            round vdc beside $n || break
            echo $n >/tmp/beside
        done
    ) &
    round vda slow 1
    value slow $?
    value slow_ms $(($(uptime_ms) - from))
    touch /tmp/slow_done
    wait
    value beside "$(cat /tmp/beside)"
    from=$(uptime_ms)
    for n in 1 2 3 4 5 6 7 8; do put vda $((n + 200)); done
    value in_turn_ms $(($(uptime_ms) - from))
    from=$(uptime_ms)
    for n in 1 2 3 4 5 6 7 8; do put vda $((n + 100)) & done
    wait
    value at_once_ms $(($(uptime_ms) - from))
    turned=0
    for n in 1 2 3 4 5 6 7 8; do get vda $((n + 100)) || turned=$?; done
    value eight $turned
}

# Without space for a while, then with parts that cannot be read.
broken() {
    put vdb 1
    value before $?
    value want no-space
    turns 1 put vdb 2
    value no_space $?
    get vdb 1
    value no_space_reads $?
    put vdc 300 && get vdc 300
    value no_space_beside $?
    value want space
    turns 0 put vdb 2
    value space $?
    value want no-reads
    turns 1 get vdb 1
    value no_reads $?
    put vdb 3
    value no_reads_writes $?
    value want reads
    turns 0 get vdb 1
    get vdb 1 && get vdb 2 && get vdb 3
    value reads $?
}

# QEMU's server, which is killed and started again meanwhile.
qemu() {
    large vdc
    value qemu_large $?
    blkdiscard -o 4194304 -l 1048576 /dev/vdc
    value qemu_discard $?
    value want kill
    n=0
    while [ $n -lt 20 ]; do
        n=$((n + 1))
        round vdc qemu $n || stop "gave up in round $n"
        value round $n
    done
}

# One request in five fails, whichever.
shaky() {
    failed=0
    n=0
    while [ $n -lt 40 ]; do
        put vda $n && get vda $n
        case $? in
            0) n=$((n + 1)) ;;
            1) failed=$((failed + 1)) ;;
            *) stop "vda returned something else at $n" ;;
        esac
    done
    value failed $failed
}

# A copy that the server forgets.
copy() {
    round vdb copy 1 && round vdb copy 2
    value copy $?
}

# Blocks of 4096 bytes, payloads of at most 64 KiB, and a server that fails everything else.
blocks() {
    round vdc blocks 2
    value blocks $?
    large vdc
    value blocks_large $?
    small vdc
    value blocks_small $?
}

# For reading only.
golden() {
    dd if=/dev/vda of=/tmp/got bs=1M count=1 iflag=direct 2>/dev/null
    pattern golden 0 | cmp -s - /tmp/got
    value golden $?
    put vda 1
    value golden_write $?
}

# last DISK BLOCK_BYTES BLOCK: writes and reads that block.
last() {
    pattern odd "$2" "$2" | dd of="/dev/$1" bs="$2" seek="$3" oflag=direct conv=notrunc,fsync 2>/dev/null || return 1
    dd if="/dev/$1" of=/tmp/got bs="$2" skip="$3" iflag=direct 2>/dev/null || return 2
    pattern odd "$2" "$2" | cmp -s - /tmp/got || return 3
}

# The last sector of a disk whose image has more than whole ones; the last block of another.
odd() {
    last vdb 512 16384
    value odd $?
    last vdc 4096 2047
    value odd_blocks $?
}

for disk in vda vdb vdc; do
    wait_device /dev/$disk 30 || stop "no /dev/$disk"
    at=/sys/block/$disk
    value $disk "$(cat $at/queue/logical_block_size) $(cat $at/queue/physical_block_size) $(($(cat $at/size) * 512)) $(cat $at/ro)"
done
case $(option part 1) in
    1) slow && broken && qemu ;;
    2) shaky && copy && blocks ;;
    3) golden && odd ;;
esac
value done 1
