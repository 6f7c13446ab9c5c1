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

# each_kind CURVE COMMAND: runs it as COMMAND LABEL DEVICE POINT for each round, point and kind.
each_kind() {
    round=1
    while [ $round -le "$rounds" ]; do
        for point in $(points "$1"); do
            for kind in $(order_of $round); do
                "$2" "$1.$kind.$point.$round" "$(device_of "$kind")" "$point"
            done
        done
        round=$((round + 1))
    done
}

at_depth() { measure "$1" "$2" 4k "$3" 1; }
at_block() { measure "$1" "$2" "$3" 16 1; }
at_vcpus() {
    # The first is always on.
    for cpu in /sys/devices/system/cpu/cpu[1-9]*; do
        if [ "${cpu##*/cpu}" -lt "$3" ]; then online=1; else online=0; fi
        [ "$(cat "$cpu/online")" = $online ] || echo $online >"$cpu/online"
    done
    measure "$1" "$2" 4k 16 "$3"
}

# turn: waits until it is this guest's, and no other's.
turn() {
    echo "PF turn"
    read -r _
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
for device in $disks; do
    wait_device "/dev/$device" 30 || stop "no /dev/$device"
done
mount_tools
ready
value kernel "$(uname -r)"
value fio "$(chroot /tools fio --version)"
for device in $disks; do tell_queue "${self}_$device" "$device"; done
# dom0 has filled the images.
[ "$(option fill no)" = no ] || fill "$(option fill no)"
[ -z "$(points disks)" ] || turn
stub_stats "$self.start"
each_kind depth at_depth
each_kind block at_block
each_kind vcpus at_vcpus
[ -z "$(points disks)" ] || many_disks
value done 1
