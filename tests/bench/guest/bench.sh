# The benchmark, the guest's side: one fio for each span, on each of three disks in turn, with
# marks on the console at which dom0 looks at the CPU times. What is counted is what the kernel
# says the disk did between the marks, so fio's own start and end are in no span.
# shellcheck shell=sh
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

rounds=$(option rounds 5)
seconds=$(option seconds 1.5)
settle=$(option settle 0.3)
idle=$(option idle 5)
workloads=$(option workloads none | tr , ' ')
mib=$(option mib 64)

# device_of KIND: the disk's name in this guest.
device_of() {
    case $1 in
        native) echo xvdc ;;
        pilotfish) echo vda ;;
        ram) echo vdb ;;
    esac
}

# counters DEVICE: uptime, and what the disk has done: reads, sectors read, writes, sectors written.
counters() {
    read -r up _ </proc/uptime
    read -r reads _ read_sectors _ writes _ written_sectors _ <"/sys/block/$1/stat"
    at="$up,$reads,$read_sectors,$writes,$written_sectors"
}

# running DEVICE BEFORE: whether it has done more than BEFORE, for ten seconds at most.
running() {
    tries=100
    while [ $tries -gt 0 ]; do
        counters "$1"
        [ "$reads,$writes" = "$2" ] || return 0
        tries=$((tries - 1))
        sleep 0.1
    done
    return 1
}

# span LABEL DEVICE SECONDS: marks a span.
span() {
    counters "$2"
    echo "PF begin $at"
    sleep "$3"
    counters "$2"
    echo "PF end $1 $at"
}

# measure ROUND KIND WORKLOAD: a workload is named RW-BLOCK-DEPTH, as in randread-4k-16.
measure() {
    device=$(device_of "$2")
    rw=${3%%-*}
    depth=${3##*-}
    block=${3#*-}
    block=${block%-*}
    counters "$device"
    before="$reads,$writes"
    chroot /tools fio --name="$3" --filename="/dev/$device" --size="${mib}m" --rw="$rw" --bs="$block" \
        --iodepth="$depth" --ioengine=libaio --direct=1 --thread=1 --time_based --runtime=600 \
        --norandommap --randrepeat=0 --gtod_reduce=1 --output=/tmp/out >/dev/null 2>&1 &
    fio=$!
    running "$device" "$before" || stop "fio does nothing: $3 on $device: $(head -n 3 /tools/tmp/out | tr '\n' ' ')"
    sleep "$settle"
    span "$1.$2.$3" "$device" "$seconds"
    kill -INT $fio
    wait $fio
    [ "$2" = native ] || stub_stats "$1.$2.$3"
}

# stub_stats LABEL: has dom0 look at the stub's counters, and waits until it has.
stub_stats() {
    echo "PF stats $1"
    read -r -t 10 _
}

for device in xvdc vda vdb; do
    wait_device /dev/$device 30 || stop "no /dev/$device"
done
mount_tools
ready=
until [ -n "$ready" ]; do
    echo "PF ready"
    read -r -t 1 ready
done
value kernel "$(uname -r)"
for kind in native pilotfish ram; do
    device=$(device_of $kind)
    queue=/sys/block/$device/queue
    value "queue_$kind" "$(sed 's/.*\[\(.*\)\].*/\1/' $queue/scheduler),max_sectors_kb=$(cat $queue/max_sectors_kb),nr_requests=$(cat $queue/nr_requests),queues=$(ls /sys/block/$device/mq | wc -l)"
    # No block is read that was never written.
    dd if=/dev/zero bs=1M count="$mib" 2>/dev/null | tr '\0' 'd' | dd of=/dev/$device bs=1M oflag=direct iflag=fullblock 2>/dev/null ||
        stop "cannot fill $device"
done
value fio "$(chroot /tools fio --version)"
[ "$idle" = 0 ] || { sleep 1 && span 0.idle.idle vda "$idle"; }

stub_stats 0.start.start
round=1
while [ $round -le "$rounds" ]; do
    case $((round % 3)) in
        1) order='native pilotfish ram' ;;
        2) order='pilotfish ram native' ;;
        0) order='ram native pilotfish' ;;
    esac
    for workload in $workloads; do
        for kind in $order; do
            measure $round $kind "$workload"
        done
    done
    round=$((round + 1))
done
value done 1
