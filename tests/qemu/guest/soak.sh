# Spans of fio without end, on a PV disk (vda) and a RAM disk (vdb) in turns, for pf.minutes=. Every
# second the console gets the disks' counters: dom0 sees by them that all goes on.
# shellcheck shell=sh
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

# beats: reads and writes that each disk has done; the same line only if nothing moves.
beats() {
    while :; do
        counts=
        for disk in vda vdb; do
            read -r r _ _ _ w _ <"/sys/block/$disk/stat"
            counts="$counts$disk:$r:$w,"
        done
        value beat "$counts"
        sleep 1
    done
}

# spans RW BLOCK DEPTH: one of fio on each disk.
spans() {
    for disk in vda vdb; do
        tool fio --output=/tmp/out --name=soak --filename="/dev/$disk" --size=64m --rw="$1" --bs="$2" \
            --iodepth="$3" --ioengine=libaio --direct=1 --thread=1 --time_based --runtime=2 --norandommap \
            --randrepeat=0 --gtod_reduce=1 >/dev/null 2>&1 ||
            stop "fio $* on $disk: $(head -n 3 /tools/tmp/out | tr '\n' ' ')"
        count=$((count + 1))
    done
    value spans "$count"
}

for disk in vda vdb; do wait_device "/dev/$disk" 30 || stop "no /dev/$disk"; done
mount_tools
count=0
value spans 0
beats &
read -r up _ </proc/uptime
end=$((${up%.*} + $(option minutes 120) * 60))
while [ "${up%.*}" -lt "$end" ]; do
    for depth in 1 4 16 64; do
        spans randread 4k $depth
        spans randwrite 4k $depth
    done
    spans randread 64k 16
    spans write 1m 4
    read -r up _ </proc/uptime
done
kill $!
value done 1
