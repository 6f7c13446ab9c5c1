# A guest that takes its CPUs off- and online under I/O: first by itself, pf.cycles= times each;
# then it brings back whatever dom0 has taken away and returned, as udev would.
. /guest/lib.sh
. /guest/disk.sh

cpus=/sys/devices/system/cpu
wait_device /dev/vda 30 || stop "no /dev/vda"
value queues "$(find /sys/block/vda/mq -mindepth 1 -maxdepth 1 -type d | wc -l)"
for number in 0 1 2 3; do
    worker vda hotplug "$number" &
done
for cycle in $(seq "$(option cycles 4)"); do
    for cpu in 1 2 3; do
        echo 0 >$cpus/cpu$cpu/online || stop "CPU $cpu does not go offline"
        sleep 0.3
        echo 1 >$cpus/cpu$cpu/online || stop "CPU $cpu does not come back"
    done
    # All but the first at once.
    for cpu in 1 2 3; do echo 0 >$cpus/cpu$cpu/online || stop "CPU $cpu stays"; done
    sleep 0.5
    for cpu in 1 2 3; do echo 1 >$cpus/cpu$cpu/online || stop "CPU $cpu is gone"; done
    value cycle "$cycle"
done
value cycles done
while :; do
    for cpu in 1 2 3; do
        # Refused while dom0 keeps it.
        grep -q 1 $cpus/cpu$cpu/online || echo 1 >$cpus/cpu$cpu/online
    done 2>/dev/null
    value online "$(cat $cpus/online)"
    sleep 1
done
