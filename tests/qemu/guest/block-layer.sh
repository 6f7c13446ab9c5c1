# What the kernel's block layer does to a disk beside plain requests, some of it during verified
# I/O: discard and zeroing against the page cache, queue settings and schedulers that change, a
# CPU that goes and comes, partitions, borders, and a driver that lets go of its device.
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

queue=/sys/block/vda/queue
# piece FILE BLOCK COUNT: blocks of 64 KiB of a file or device, through the page cache.
piece() { dd if="$1" bs=64k skip="$2" count="$3" 2>/dev/null; }
# same BLOCK COUNT: whether those blocks of the disk are as they were written.
same() {
    piece /tmp/written "$1" "$2" >/tmp/a
    piece /dev/vda "$1" "$2" | cmp -s - /tmp/a
}
# zero BLOCK COUNT: whether those read as zeroes.
zero() {
    piece /dev/zero 0 "$2" >/tmp/a
    piece /dev/vda "$1" "$2" | cmp -s - /tmp/a
}
uncached() { echo 3 >/proc/sys/vm/drop_caches; }

wait_device /dev/vda 30 || stop "no /dev/vda"
mount_tools
bytes=$(($(cat /sys/block/vda/size) * 512))

# Discard and zeroing, with what they hit in the page cache.
pattern block-layer 1 >/tmp/written
dd if=/tmp/written of=/dev/vda bs=64k conv=notrunc,fsync 2>/dev/null
same 0 16 && value cached 1
tool blkdiscard -o 131072 -l 131072 /dev/vda && zero 2 2 && same 0 2 && same 4 12 && value discard_in_cache 1
said=$(tool blkdiscard -z -o 524288 -l 262144 /dev/vda 2>&1) || value zeroing_said "$said"
zero 8 4 && same 4 4 && same 12 4 && value zeroes_in_cache 1
uncached
zero 2 2 && zero 8 4 && same 0 2 && same 4 4 && same 12 4 && value both_on_disk 1
said=$(tool blkdiscard -z -o $((786432 + 512)) -l 512 /dev/vda 2>&1) || value zeroing_said "$said"
piece /tmp/written 12 1 >/tmp/expected
dd if=/dev/zero of=/tmp/expected bs=512 seek=1 count=1 conv=notrunc 2>/dev/null
uncached
piece /dev/vda 12 1 | cmp -s - /tmp/expected && value one_sector_zeroed 1
for place in "-o 100 -l 512" "-o 0 -l 100"; do
    # shellcheck disable=SC2086
    tool blkdiscard $place /dev/vda 2>/dev/null && value error "blkdiscard $place succeeds"
done
# A range that begins on the disk and ends beyond it is cut, by util-linux: its last sector goes.
dd if=/tmp/written of=/dev/vda bs=512 seek=$((bytes / 512 - 2)) count=2 conv=notrunc,fsync 2>/dev/null
tool blkdiscard -z -o $((bytes - 512)) -l 1024000000000 /dev/vda
uncached
head -c 512 /tmp/written >/tmp/expected
dd if=/dev/zero bs=512 count=1 2>/dev/null >>/tmp/expected
tail -c 1024 /dev/vda | cmp -s - /tmp/expected && value last_sector_zeroed 1

# Borders.
last=$((bytes / 512 - 1))
value read_at_end "$(dd if=/dev/vda bs=512 skip=$last count=8 iflag=direct 2>/dev/null | wc -c)"
dd if=/tmp/written of=/dev/vda bs=512 seek=$((last + 1)) count=1 conv=notrunc oflag=direct 2>/dev/null ||
    value beyond_end_refused 1
flushes() { awk '{ print $16 }' /sys/block/vda/stat; }
was=$(flushes)
dd if=/tmp/written of=/dev/vda bs=64k count=1 seek=100 conv=notrunc,fsync 2>/dev/null
value flushes $(($(flushes) - was))

# Settings that change under I/O that fio verifies.
tool fio --output=/tmp/settings --name=settings --filename=/dev/vda --direct=1 --ioengine=libaio --thread=1 \
    --offset=8m --size=16m --loops=3 --rw=randwrite --bsrange=4k-128k --blockalign=4k --iodepth=32 \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0 &
fio=$!
turns=0
while kill -0 $fio 2>/dev/null; do
    for scheduler in $(tr -d '[]' <$queue/scheduler); do echo "$scheduler" >$queue/scheduler; done
    for setting in max_sectors_kb:4 nomerges:2 max_sectors_kb:64 read_ahead_kb:0 nomerges:0 rq_affinity:2; do
        echo "${setting#*:}" >"$queue/${setting%:*}"
    done
    cat $queue/max_hw_sectors_kb >$queue/max_sectors_kb
    echo mq-deadline >$queue/scheduler 2>/dev/null
    for requests in 4 64 256; do echo $requests >$queue/nr_requests 2>/dev/null; done
    echo none >$queue/scheduler
    echo 0 >/sys/devices/system/cpu/cpu1/online && offline=$((offline + 1))
    echo 1 >/sys/devices/system/cpu/cpu1/online
    turns=$((turns + 1))
    sleep 0.2
done
wait $fio
value settings_fio "$?"
value settings_turns "$turns"
value cpu_offline "${offline:-0}"

# Partitions: two, from 40 MiB and from 44 MiB, 4 MiB each; each is its own part of the disk.
{
    head -c 446 /dev/zero
    printf '\0\0\0\0\203\0\0\0\0\100\1\0\0\040\0\0'
    printf '\0\0\0\0\203\0\0\0\0\140\1\0\0\040\0\0'
    head -c 32 /dev/zero
    printf '\125\252'
} >/tmp/table
value table_bytes "$(wc -c </tmp/table)"
dd if=/tmp/table of=/dev/vda conv=notrunc,fsync 2>/dev/null
tool blockdev --rereadpt /dev/vda
wait_device /dev/vda2 5 && value partitions "$(cat /sys/block/vda/vda1/size):$(cat /sys/block/vda/vda2/size)"
for n in 1 2; do
    yes "partition $n" | head -c 4194304 >"/tmp/partition$n"
    dd if="/tmp/partition$n" of="/dev/vda$n" bs=64k conv=notrunc,fsync 2>/dev/null || value error "writing partition $n"
    dd if="/tmp/partition$n" of="/dev/vda$n" bs=64k seek=64 count=1 conv=notrunc 2>/dev/null ||
        value "beyond_partition_$n" 1
done
uncached
cat /tmp/partition1 /tmp/partition2 >/tmp/both
dd if=/dev/vda bs=64k skip=640 count=128 iflag=direct 2>/dev/null | cmp -s - /tmp/both && value partitions_hold 1
dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=notrunc,fsync 2>/dev/null
tool blockdev --rereadpt /dev/vda
[ -e /dev/vda1 ] || value partitions_gone 1

# The driver lets go of the device and takes it again: a reset and a new start, four times idle
# and once during writes, which may fail but must not hang.
device=$(basename "$(readlink -f /sys/block/vda/device)")
driver=/sys/bus/virtio/drivers/virtio_blk
bound=0
for n in 1 2 3 4 5; do
    if [ $n = 5 ]; then
        dd if=/dev/zero of=/dev/vda bs=64k seek=800 oflag=direct conv=notrunc 2>/dev/null &
        sleep 0.3
    fi
    echo "$device" >$driver/unbind
    [ -e /sys/block/vda ] && value error "the disk stays when its driver goes"
    echo "$device" >$driver/bind
    wait_device /dev/vda 10 || stop "no disk after $n new starts"
    same 4 4 && bound=$((bound + 1))
done
wait
value bound_again "$bound"
dd if=/dev/vda bs=64k skip=640 count=128 iflag=direct 2>/dev/null | cmp -s - /tmp/both && value kept 1
# Whatever the kernel had to say of the disk.
dmesg | grep -E 'vda|virtio' | tail -n 20
value done 1
