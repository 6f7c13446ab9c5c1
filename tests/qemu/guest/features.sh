# Every feature of the disk beyond reading and writing that this kernel can use: a queue for
# each CPU, both write-cache modes, discard, zeroing, and a disk that grows and shrinks.
. /guest/lib.sh
. /guest/disk.sh

queue=/sys/block/vda/queue
cache() { tr ' ' '-' <$queue/write_cache; }
zeroes() { dd if=/dev/zero bs=64k count=16 2>/dev/null; }

wait_device /dev/vda 30 || stop "no /dev/vda"
value read_ahead_kib "$(cat $queue/read_ahead_kb)"
value queues "$(find /sys/block/vda/mq -mindepth 1 -maxdepth 1 -type d | wc -l)"

value cache_first "$(cache)"
round vda features 0 || stop "write-back"
echo "write through" >$queue/write_cache || stop "write_cache cannot be set"
value cache_second "$(cache)"
round vda features 1 || stop "write-through"
echo "write back" >$queue/write_cache
value cache_third "$(cache)"
round vda features 2 || stop "write-back again"

value discard_max "$(cat $queue/discard_max_bytes)"
value zeroes_max "$(cat $queue/write_zeroes_max_bytes)"
# The second MiB goes, its neighbours stay.
blkdiscard -o 1048576 -l 1048576 /dev/vda || stop "blkdiscard"
for n in 0 1 2; do
    dd if=/dev/vda of=/tmp/read bs=64k skip=$((n * 16)) count=16 iflag=direct 2>/dev/null
    if [ $n = 1 ]; then zeroes; else pattern features $n; fi | cmp -s - /tmp/read &&
        value "after_discard_$n" 1
done

# written: writes that the disk has got, by the kernel's count.
written() { awk '{ print $5 }' /sys/block/vda/stat; }
# zeroed NAME FIRST LAST: whether these MiBs are zeros and their neighbours are not.
zeroed() {
    for n in $(seq $(($2 - 1)) $(($3 + 1))); do
        dd if=/dev/vda of=/tmp/read bs=64k skip=$((n * 16)) count=16 iflag=direct 2>/dev/null
        if [ "$n" -lt "$2" ] || [ "$n" -gt "$3" ]; then pattern features "$n"; else zeroes; fi | cmp -s - /tmp/read ||
            value error "$1: MiB $n holds something else"
    done
    value "$1" 1
}
for n in $(seq 2 15); do round vda features "$n" || stop "before the zeroes"; done
# One request, so it is the disk that makes the zeros and no page of them comes from us.
from=$(written)
# By their paths: the shell prefers applets of its own, which know less.
/usr/bin/blkdiscard -z -o 3145728 -l 4194304 /dev/vda || stop "blkdiscard -z"
value zero_requests $(($(written) - from))
zeroed zeroes 3 6
# This one may unmap, and the kernel writes no zeros in its place.
/usr/bin/fallocate -p -o 9437184 -l 4194304 /dev/vda || stop "fallocate -p"
zeroed punched 9 12

# follow WAS: waits until the kernel sees another size. The storage backend reads its device's size
# when a request comes.
follow() {
    tries=200
    while [ "$(cat /sys/block/vda/size)" = "$1" ] && [ $tries -gt 0 ]; do
        dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
        tries=$((tries - 1))
        sleep 0.1
    done
    value sectors "$(cat /sys/block/vda/size)"
}
# last_mib NAME: writes the last MiB of the disk and reads it back.
last_mib() { round_at vda "$1" 0 $(($(cat /sys/block/vda/size) / 128 - 16)) 16; }

value sectors "$(cat /sys/block/vda/size)"
follow 65536
last_mib grown || value error "no write beyond the old end"
value grown 1
follow 98304
last_mib shrunk || value error "no write below the new end"
# Just beyond the new end, where it once could write.
if dd if=/dev/zero of=/dev/vda bs=64k seek=$(($(cat /sys/block/vda/size) / 128)) count=1 oflag=direct conv=notrunc 2>/dev/null; then
    value error "a write beyond the new end succeeded"
fi
value read_beyond "$(dd if=/dev/vda bs=64k skip=$(($(cat /sys/block/vda/size) / 128)) count=1 iflag=direct 2>/dev/null | wc -c)"
round vda features 7 || value error "the disk does not work after it shrank"
value done 1
