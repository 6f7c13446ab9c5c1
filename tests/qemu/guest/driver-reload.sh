# A guest whose drivers go and come back again and again: the module, the device of the virtio
# bus, that of the platform bus; idle and during I/O. At last the device is reset under its
# driver's feet, after which only a reboot helps. The second boot verifies.
. /guest/lib.sh
. /guest/disk.sh

platform=/sys/bus/platform/drivers/virtio-mmio
virtio=/sys/bus/virtio/drivers/virtio_blk

# traffic: four writers on the second 16 MiB of the disk; they end when the disk goes. By a node of
# their own: /dev/vda goes with the disk, and a dd that came just then would make a file of that
# name, which never fails.
traffic() {
    rm -f /tmp/disk
    mknod /tmp/disk b $(tr ':' ' ' </sys/block/vda/dev) || stop "mknod"
    for writer in 0 1 2 3; do
        (while dd if=/dev/zero of=/tmp/disk bs=64k seek=$((256 + writer * 64)) count=64 oflag=direct conv=notrunc 2>/dev/null; do :; done) &
    done
    sleep 0.3
}

# back: the disk is there again and still does what a disk does.
back() {
    wait_device /dev/vda 10 || stop "no /dev/vda after $1"
    rounds=$((rounds + 1))
    round vda reload "$rounds" || stop "after $1"
    value round "$rounds"
}

wait_device /dev/vda 30 || stop "no /dev/vda"
if [ "$(dd if=/dev/vda bs=1M skip=40 count=1 2>/dev/null | head -c 6)" = second ]; then
    value second_boot 1
    rounds=100
    back "the reboot"
    value done "$rounds"
    poweroff -f
fi

rounds=0
for n in $(seq "$(option cycles 12)"); do
    rmmod virtio_blk || stop "rmmod"
    insmod /modules/virtio_blk.ko || stop "insmod"
    back "reload $n"
done
value reloads "$n"
device=$(basename "$(echo $platform/*.virtio*)")
for n in $(seq "$(option cycles 12)"); do
    echo "$device" >$platform/unbind || stop "unbind of $device"
    [ ! -e /dev/vda ] || stop "the disk is still there"
    echo "$device" >$platform/bind || stop "bind of $device"
    back "platform unbind $n"
done
value platform_binds "$n"
for n in $(seq "$(option cycles 12)"); do
    traffic
    echo virtio0 >$virtio/unbind || stop "unbind of virtio0"
    wait
    echo virtio0 >$virtio/bind || stop "bind of virtio0"
    back "unbind $n during I/O"
done
value busy_binds "$n"
{ echo second; dd if=/dev/zero bs=1M count=1 2>/dev/null; } | head -c 1048576 >/tmp/mark
dd if=/tmp/mark of=/dev/vda bs=1M seek=40 oflag=direct conv=notrunc,fsync 2>/dev/null || stop "cannot mark"
traffic
value resetting 1
# Status = 0: the driver's requests under way never come back. (The kernel's iomem=relaxed lets
# us at a device that has a driver.)
devmem 0x02000070 32 0
value status_after "$(devmem 0x02000070 32)"
sleep 2
reboot -f -n
