# What the guests of the benchmark share: spans of fio on disks, with marks on the console at
# which dom0 reads the CPU times. What is counted is what the kernel says the disks did
# between the marks, so fio's own start and end are in no span. Source it after /guest/lib.sh,
# /guest/disk.sh and /guest/tools.sh. The other side: tests/bench/meter/src/watch.rs.
# shellcheck shell=sh disable=SC2034

settle=$(option settle 0.3)
# The kind of the third disk.
third=$(option third ram)

# counters DEVICE...: uptime, and what the disks have done: reads, sectors read, writes, sectors written.
counters() {
    reads=0 read_sectors=0 writes=0 written_sectors=0
    read -r up _ </proc/uptime
    for counted; do
        read -r r _ rs _ w _ ws _ <"/sys/block/$counted/stat"
        reads=$((reads + r)) read_sectors=$((read_sectors + rs))
        writes=$((writes + w)) written_sectors=$((written_sectors + ws))
    done
    at="$up,$reads,$read_sectors,$writes,$written_sectors"
}

# running BEFORE DEVICE...: whether they have done more than BEFORE, for ten seconds at most.
running() {
    before=$1
    shift
    tries=100
    while [ $tries -gt 0 ]; do
        counters "$@"
        [ "$reads,$writes" = "$before" ] || return 0
        tries=$((tries - 1))
        sleep 0.1
    done
    return 1
}

# span LABEL SECONDS DEVICE...: marks a span.
span() {
    label=$1 length=$2
    shift 2
    counters "$@"
    echo "PF begin $at"
    sleep "$length"
    counters "$@"
    echo "PF end $label $at"
}

# fio_span LABEL DEVICES SECONDS RW BLOCK DEPTH JOBS: a span of fio on DEVICES (words), on each of
# them JOBS threads with DEPTH I/Os under way.
fio_span() {
    jobs=
    for device in $2; do jobs="$jobs --name=$device --filename=/dev/$device"; done
    # shellcheck disable=SC2086
    fio_run "$1" "$2" "$3" --size="${mib}m" --rw="$4" --bs="$5" --iodepth="$6" --numjobs="$7" \
        --ioengine=libaio --direct=1 --gtod_reduce=1 $jobs
}

# fio_run LABEL DEVICES SECONDS OPTION...: a span of fio with these options, which does its I/O on
# DEVICES (words). What it says is in /tools/tmp/out afterwards.
fio_run() {
    run_label=$1 run_devices=$2 run_seconds=$3
    shift 3
    # shellcheck disable=SC2086
    counters $run_devices
    before="$reads,$writes"
    chroot /tools fio --thread=1 --time_based --runtime=600 --norandommap --randrepeat=0 --output=/tmp/out "$@" \
        >/dev/null 2>&1 &
    fio=$!
    # shellcheck disable=SC2086
    running "$before" $run_devices ||
        stop "fio does nothing: $run_label on $run_devices: $(head -n 3 /tools/tmp/out | tr '\n' ' ')"
    sleep "$settle"
    # shellcheck disable=SC2086
    span "$run_label" "$run_seconds" $run_devices
    kill -INT $fio
    wait $fio
}

# stub_stats LABEL: has dom0 read the stub's counters, and waits until it has.
stub_stats() {
    echo "PF stats $1"
    read -r -t 10 _
}

# ready: waits until dom0 watches, and whoever else measures is there too.
ready() {
    answer=
    until [ -n "$answer" ]; do
        echo "PF ready"
        read -r -t 1 answer
    done
}

# turn: waits until it is this guest's, and no other's.
turn() {
    echo "PF turn"
    read -r _
}

# begin DEVICE...: waits until they are there and everybody who measures is ready.
begin() {
    for device; do
        wait_device "/dev/$device" 30 || stop "no /dev/$device"
    done
    mount_tools
    ready
    value kernel "$(uname -r)"
}

# each_round ORDER WORDS COMMAND: runs COMMAND ROUND KIND WORD for each round and word, and for each
# kind in the order that ORDER ROUND tells.
each_round() {
    round=1
    while [ "$round" -le "$rounds" ]; do
        for what in $2; do
            for kind in $("$1" "$round"); do
                "$3" "$round" "$kind" "$what"
            done
        done
        round=$((round + 1))
    done
}

# fill DEVICE: no block is to be read that was never written.
fill() {
    dd if=/dev/zero bs=1M count="$mib" 2>/dev/null | tr '\0' 'd' |
        dd of="/dev/$1" bs=1M oflag=direct iflag=fullblock 2>/dev/null || stop "cannot fill $1"
}

# tell_queue NAME DEVICE: what the kernel chose for that disk's queue.
tell_queue() {
    queue=/sys/block/$2/queue
    value "queue_$1" "$(sed 's/.*\[\(.*\)\].*/\1/' "$queue/scheduler"),max_sectors_kb=$(cat "$queue/max_sectors_kb"),nr_requests=$(cat "$queue/nr_requests"),queues=$(find "/sys/block/$2/mq" -mindepth 1 -maxdepth 1 | wc -l)"
}

# device_of KIND: the disk's name in a guest that has one of each kind.
device_of() {
    case $1 in
        native) echo xvdc ;;
        pilotfish | granted) echo vda ;;
        ram | nbd) echo vdb ;;
    esac
}

# order_of ROUND: the kinds, in an order that rotates from round to round.
order_of() {
    case $(($1 % 3)) in
        1) echo native pilotfish "$third" ;;
        2) echo pilotfish "$third" native ;;
        0) echo "$third" native pilotfish ;;
    esac
}
