# A guest with two vCPUs: each does verified rounds of its own, both at once. They share the
# disk: the places of one are odd, those of the other even.
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
value cpus "$(grep -c '^processor' /proc/cpuinfo)"
for cpu in 0 1; do
    (
        n=$cpu
        while [ "$n" -lt 16 ]; do
            taskset $((cpu + 1)) sh -c ". /guest/lib.sh; . /guest/disk.sh; round vda cpu$cpu $n" || exit 1
            n=$((n + 2))
        done
        value "cpu$cpu" 8
    ) &
done
wait
# What each wrote must have survived the other.
for n in $(seq 0 15); do
    dd if=/dev/vda of=/tmp/read bs=64k skip=$((n * 16)) count=16 iflag=direct 2>/dev/null
    pattern "cpu$((n % 2))" "$n" | cmp -s - /tmp/read || value error "place $n holds something else"
done
value irqs "$(awk '/virtio/ { print $2 + $3 }' /proc/interrupts | head -n 1)"
value done 16
