# A guest that reads pf.fill= MiB through its page cache, then gives memory back: page by page,
# idle and during I/O, then 512 MiB at once.
. /guest/lib.sh
. /guest/disk.sh

memory=/sys/devices/system/xen_memory/xen_memory0
current() { cat $memory/info/current_kb; }
tracing=/sys/kernel/tracing

# fill NUMBER: reads, so that the disk's data has been everywhere in our memory.
fill() {
    echo 1 >/proc/sys/vm/drop_caches
    dd if=/dev/vda of=/dev/null bs=1M count="$(option fill 4608)" 2>/dev/null || stop "read error"
    value filled "$1"
    # dom0 looks at the stub.
    sleep 4
}

# uptime_s: whole seconds since boot.
uptime_s() { cut -d . -f 1 /proc/uptime; }

# single NAME: gives pages back for 20 s, one at a time; tells how long the hypercalls took in
# microseconds: the longest, the median, how many.
single() {
    echo >$tracing/trace
    until=$(($(uptime_s) + 20))
    while [ "$(uptime_s)" -lt $until ]; do
        echo $(($(current) - 4)) >$memory/target_kb
        sleep 0.02
    done
    value "$1" "$(sed -n 's/.*[^0-9.]\([0-9][0-9]*\)\.[0-9]* us .*xenmem_reservation_decrease.*/\1/p' $tracing/trace |
        sort -n | awk '{ us[NR] = $1 } END { print "max " us[NR] " median " us[int((NR + 1) / 2)] " of " NR }')"
}

# resize KIB: has so much memory, as soon as it can be.
resize() {
    echo "$1" >$memory/target_kb
    tries=1200
    until [ "$(current)" = "$1" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || stop "has $(current) KiB in place of $1"
        sleep 0.05
    done
}

wait_device /dev/vda 30 || stop "no /dev/vda"
mount -t tracefs tracefs $tracing
echo xenmem_reservation_decrease >$tracing/set_graph_function
echo 1 >$tracing/max_graph_depth
echo function_graph >$tracing/current_tracer

fill 1
single single
for reader in 0 1 2 3; do
    while :; do dd if=/dev/vda of=/dev/null bs=256k count=64 skip=$((reader * 64)) iflag=direct 2>/dev/null; done &
    readers="$readers $!"
done
single busy
# shellcheck disable=SC2086
kill $readers
echo nop >$tracing/current_tracer
fill 2
whole=$(current)
from=$(cut -d ' ' -f 1 /proc/uptime | tr -d .)
resize $((whole - 512 * 1024))
value left $((($(cut -d ' ' -f 1 /proc/uptime | tr -d .) - from) * 10))
sleep "$(option pause 60)"
resize "$whole"
fill 3
sleep 600
