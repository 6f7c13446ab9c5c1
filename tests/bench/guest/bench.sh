# The benchmark, the guest's side: one fio for each span, on each of three disks in turn. With pf.grants= two guests take
# turns: one has the native disk and one of its stub (beside), the other grants its memory and has one (granted).
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

grants=$(option grants '')
case $grants in
    granted) kinds=granted ;;
    beside) kinds='native pilotfish' ;;
    *) kinds="native pilotfish $third" ;;
esac

# order_of_guest ROUND: the kinds in the order of that round; where guests take turns, a turn before them.
order_of_guest() {
    case $grants.$(($1 % 2)) in
        .*) order_of "$1" ;;
        beside.0) echo turn pilotfish native ;;
        *) echo turn "$kinds" ;;
    esac
}

# measure ROUND KIND WORKLOAD: a workload is named RW-BLOCK-DEPTH, as in randread-4k-16.
measure() {
    [ "$2" != turn ] || { turn; return; }
    rw=${3%%-*}
    depth=${3##*-}
    block=${3#*-}
    fio_span "$1.$2.$3" "$(device_of "$2")" "$seconds" "$rw" "${block%-*}" "$depth" 1
    case $2 in
        native) ;;
        granted) stub_stats "guest.$1.$2.$3" ;;
        *) stub_stats "$1.$2.$3" ;;
    esac
}

devices=
for kind in $kinds; do devices="$devices $(device_of "$kind")"; done
# shellcheck disable=SC2086
begin $devices
for kind in $kinds; do
    tell_queue "$kind" "$(device_of "$kind")"
    fill "$(device_of "$kind")"
done
value fio "$(chroot /tools fio --version)"
[ "$idle" = 0 ] || { stub_stats 0.idle.before && sleep 1 && span 0.idle.idle "$idle" vda; }

if [ "$grants" = granted ]; then stub_stats guest.0.start.start; else stub_stats 0.start.start; fi
each_round order_of_guest "$workloads" measure
# Nobody's end is in another's span.
[ -z "$grants" ] || turn
value done 1
