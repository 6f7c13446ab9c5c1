# A guest that grants its memory: rounds on a PV disk and a RAM disk, its drivers let go and return, idle and
# during I/O, then a reboot, whose boot verifies.
. /guest/lib.sh
. /guest/disk.sh

virtio=/sys/bus/virtio/drivers/virtio_blk

# traffic: two writers on the second 16 MiB of the disk; they end when the disk goes.
traffic() {
    rm -f /tmp/disk
    mknod /tmp/disk b $(tr ':' ' ' </sys/block/vda/dev) || stop "mknod"
    for writer in 0 1; do
        (while dd if=/dev/zero of=/tmp/disk bs=64k seek=$((256 + writer * 64)) count=64 oflag=direct conv=notrunc 2>/dev/null; do :; done) &
    done
    sleep 0.3
}

# back: the disk is there again and still does what a disk does.
back() {
    wait_device /dev/vda 10 || stop "no /dev/vda after $1"
    rounds=$((rounds + 1))
    round vda grants "$rounds" || stop "after $1"
    value round "$rounds"
}

wait_device /dev/vda 30 || stop "no /dev/vda"
value seen_ms "$(seen_ms vda)"
if [ "$(dd if=/dev/vda bs=1M skip=40 count=1 2>/dev/null | head -c 6)" = second ]; then
    rounds=100
    back "the reboot"
    value second_boot 1
    poweroff -f
fi

dmesg | grep -i -e grant -e virtio
rounds=0
for n in $(seq 8); do
    back "nothing"
    round_at vdb ram "$n" $((n * 4)) 4 || stop "RAM disk"
done
value rounds "$rounds"
# Not the platform's device: Linux' grant DMA keeps a pointer to what goes with it.
bus=$(basename "$(readlink -f /sys/block/vda/device)")
for n in $(seq "$(option cycles 4)"); do
    echo "$bus" >$virtio/unbind || stop "unbind of $bus"
    [ ! -e /dev/vda ] || stop "the disk is still there"
    echo "$bus" >$virtio/bind || stop "bind of $bus"
    back "unbind $n"
done
value binds "$n"
for n in $(seq "$(option cycles 4)"); do
    traffic
    echo "$bus" >$virtio/unbind || stop "unbind of $bus"
    wait
    echo "$bus" >$virtio/bind || stop "bind of $bus"
    back "unbind $n during I/O"
done
value busy_binds "$n"
{ echo second; dd if=/dev/zero bs=1M count=1 2>/dev/null; } | head -c 1048576 >/tmp/mark
dd if=/tmp/mark of=/dev/vda bs=1M seek=40 oflag=direct conv=notrunc,fsync 2>/dev/null || stop "cannot mark"
sync
reboot -f
