# Every feature of the disk beyond reading and writing that this kernel can use: a queue for
# each CPU, both write-cache modes, discard, and a disk that grows.
. /guest/lib.sh
. /guest/disk.sh

queue=/sys/block/vda/queue
cache() { tr ' ' '-' <$queue/write_cache; }
zeroes() { dd if=/dev/zero bs=64k count=16 2>/dev/null; }

wait_device /dev/vda 30 || stop "no /dev/vda"
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

old=$(cat /sys/block/vda/size)
value sectors "$old"
# The back end looks at its device's size when a request comes.
tries=200
while [ "$(cat /sys/block/vda/size)" = "$old" ] && [ $tries -gt 0 ]; do
    dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
    tries=$((tries - 1))
    sleep 0.1
done
new=$(cat /sys/block/vda/size)
value sectors "$new"
# The last MiB of the grown disk.
pattern features end >/tmp/end
dd if=/tmp/end of=/dev/vda bs=1M seek=$((new / 2048 - 1)) oflag=direct conv=notrunc,fsync 2>/dev/null ||
    value error "no write beyond the old end"
value done 1
