# The benchmark's curves, the guest's side. Which curves, and their points, the kernel's command
# line says; labels are CURVE.SERIES.POINT.ROUND.
# shellcheck shell=sh
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

self=$(option self one)
rounds=$(option rounds 3)
seconds=$(option seconds 0.8)
mib=$(option mib 64)
. /guest/spans.sh

# points CURVE: its points, as words; none when it is not asked for.
points() { option "$1" '' | tr , ' '; }

# measure LABEL DEVICES BLOCK DEPTH JOBS: random reads.
measure() {
    fio_span "$1" "$2" "$seconds" randread "$3" "$4" "$5"
    case $1 in
        *.native.*) ;;
        *) stub_stats "$self.$1" ;;
    esac
}

# at_depth, at_block, at_vcpus ROUND KIND POINT
at_depth() { measure "depth.$2.$3.$1" "$(device_of "$2")" 4k "$3" 1; }
at_block() { measure "block.$2.$3.$1" "$(device_of "$2")" "$3" 16 1; }
at_vcpus() {
    # The first is always on.
    for cpu in /sys/devices/system/cpu/cpu[1-9]*; do
        if [ "${cpu##*/cpu}" -lt "$3" ]; then online=1; else online=0; fi
        [ "$(cat "$cpu/online")" = $online ] || echo $online >"$cpu/online"
    done
    measure "vcpus.$2.$3.$1" "$(device_of "$2")" 4k 16 "$3"
}

# first COUNT: names of that many disks of the stub.
first() {
    count=$1
    for letter in a b c d e f g h i j k; do
        [ "$count" -gt 0 ] || break
        printf 'vd%s ' $letter
        count=$((count - 1))
    done
}

# many_disks: the guest with all disks does I/O on some, and on one alone; the one with a single
# disk does the latter too, right after it.
many_disks() {
    round=1
    while [ $round -le "$rounds" ]; do
        if [ "$self" != single ]; then
            for point in $(points disks); do
                measure "disks.pilotfish.$point.$round" "$(first "$point")" 4k 16 1
            done
        fi
        for point in 1 16; do
            turn
            measure "idle.$self.$point.$round" vda 4k "$point" 1
        done
        round=$((round + 1))
    done
    # Nobody's end is in another's span.
    turn
}

disks=$(option devices 'vda,vdb,xvdc' | tr , ' ')
# shellcheck disable=SC2086
begin $disks
value fio "$(chroot /tools fio --version)"
for device in $disks; do tell_queue "${self}_$device" "$device"; done
# dom0 has filled the images.
[ "$(option fill no)" = no ] || fill "$(option fill no)"
[ -z "$(points disks)" ] || turn
stub_stats "$self.start"
for curve in depth block vcpus; do each_round order_of "$(points $curve)" at_$curve; done
[ -z "$(points disks)" ] || many_disks
value done 1
