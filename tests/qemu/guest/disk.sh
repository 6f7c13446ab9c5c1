# Verified I/O for guests (busybox sh). Source it after /guest/lib.sh.
# shellcheck shell=sh

# option NAME DEFAULT: the value of pf.NAME= on the kernel's command line.
option() {
    for word in $(cat /proc/cmdline); do
        case $word in
            "pf.$1="*)
                echo "${word#"pf.$1="}"
                return
                ;;
        esac
    done
    echo "$2"
}

# pattern TAG ROUND [BYTES]: a MiB, or that many bytes, that only this round of this guest can
# have written.
pattern() { yes "$1 round $2" | head -c "${3:-1048576}"; }

# round_at DISK TAG ROUND PLACE BLOCKS: writes so many blocks of 64 KiB at that one, flushes, reads
# them back from the device and compares. 0: all well.
round_at() {
    pattern "$2" "$3" $(($5 * 65536)) >"/tmp/written.$2"
    dd if="/tmp/written.$2" of="/dev/$1" bs=64k seek="$4" oflag=direct conv=notrunc,fsync 2>/dev/null ||
        { value error "round $3 of $2: write to $1 failed"; return 1; }
    dd if="/dev/$1" of="/tmp/read.$2" bs=64k skip="$4" count="$5" iflag=direct 2>/dev/null ||
        { value error "round $3 of $2: read from $1 failed"; return 1; }
    cmp -s "/tmp/written.$2" "/tmp/read.$2" ||
        { value error "round $3 of $2: $1 returned something else"; return 1; }
}

# round DISK TAG ROUND: a MiB at a place that moves with the round.
round() { round_at "$1" "$2" "$3" $(($3 % 16 * 16)) 16; }

# worker DISK TAG NUMBER: rounds of 256 KiB without end, on the MiB of worker NUMBER; tells the
# last one as `PF wNUMBER=ROUND`, that of worker 0 as `PF round=ROUND` too.
worker() {
    rounds=0
    while :; do
        rounds=$((rounds + 1))
        round_at "$1" "$2-$3" $rounds $(($3 * 16 + rounds % 4 * 4)) 4 || stop "worker $3 gave up"
        value "w$3" $rounds
        [ "$3" != 0 ] || value round $rounds
    done
}
