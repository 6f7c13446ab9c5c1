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

# pattern TAG ROUND: a MiB that only this round of this guest can have written.
pattern() { yes "$1 round $2" | head -c 1048576; }

# round DISK TAG ROUND: writes that MiB at a place that moves with the round, flushes, reads
# it back from the device and compares. 0: all well.
round() {
    at=$(($3 % 16))
    pattern "$2" "$3" >"/tmp/written.$2"
    dd if="/tmp/written.$2" of="/dev/$1" bs=64k seek=$((at * 16)) oflag=direct conv=notrunc,fsync 2>/dev/null ||
        { value error "round $3 of $2: write to $1 failed"; return 1; }
    dd if="/dev/$1" of="/tmp/read.$2" bs=64k skip=$((at * 16)) count=16 iflag=direct 2>/dev/null ||
        { value error "round $3 of $2: read from $1 failed"; return 1; }
    cmp -s "/tmp/written.$2" "/tmp/read.$2" ||
        { value error "round $3 of $2: $1 returned something else"; return 1; }
}
