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

begin xvdc vda vdb
for kind in native pilotfish ram; do
    tell_queue $kind "$(device_of $kind)"
    fill "$(device_of $kind)"
done
value fio "$(chroot /tools fio --version)"
[ "$idle" = 0 ] || { sleep 1 && span 0.idle.idle "$idle" vda; }

stub_stats 0.start.start
each_round order_of "$workloads" measure
value done 1
