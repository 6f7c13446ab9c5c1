# The benchmark, the guest's side: one fio for each span, on each of three disks in turn.
# shellcheck shell=sh
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

rounds=$(option rounds 5)
seconds=$(option seconds 1.5)
idle=$(option idle 5)
workloads=$(option workloads none | tr , ' ')
mib=$(option mib 64)
. /guest/spans.sh

# measure ROUND KIND WORKLOAD: a workload is named RW-BLOCK-DEPTH, as in randread-4k-16.
measure() {
    rw=${3%%-*}
    depth=${3##*-}
    block=${3#*-}
    fio_span "$1.$2.$3" "$(device_of "$2")" "$seconds" "$rw" "${block%-*}" "$depth" 1
    [ "$2" = native ] || stub_stats "$1.$2.$3"
}

for device in xvdc vda vdb; do
    wait_device /dev/$device 30 || stop "no /dev/$device"
done
mount_tools
ready
value kernel "$(uname -r)"
for kind in native pilotfish ram; do
    tell_queue $kind "$(device_of $kind)"
    fill "$(device_of $kind)"
done
value fio "$(chroot /tools fio --version)"
[ "$idle" = 0 ] || { sleep 1 && span 0.idle.idle "$idle" vda; }

stub_stats 0.start.start
round=1
while [ $round -le "$rounds" ]; do
    for workload in $workloads; do
        for kind in $(order_of $round); do
            measure $round "$kind" "$workload"
        done
    done
    round=$((round + 1))
done
value done 1
