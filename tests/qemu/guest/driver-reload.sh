# A guest whose drivers go and come back again and again: the module, the device of the virtio
# bus, that of the platform bus; idle and during I/O. At last the device is reset under its
# driver's feet, after which only a reboot helps. The second boot verifies.
. /guest/lib.sh
. /guest/disk.sh
. /guest/drivers.sh

platform=/sys/bus/platform/drivers/virtio-mmio

wait_device /dev/vda 30 || stop "no /dev/vda"
if marked; then
    value second_boot 1
    rounds=100
    back reload "the reboot"
    value done "$rounds"
    poweroff -f
fi

rounds=0
for n in $(seq "$(option cycles 12)"); do
    rmmod virtio_blk || stop "rmmod"
    insmod /modules/virtio_blk.ko || stop "insmod"
    back reload "reload $n"
done
value reloads "$n"
device=$(basename "$(echo $platform/*.virtio*)")
for n in $(seq "$(option cycles 12)"); do
    echo "$device" >$platform/unbind || stop "unbind of $device"
    [ ! -e /dev/vda ] || stop "the disk is still there"
    echo "$device" >$platform/bind || stop "bind of $device"
    back reload "platform unbind $n"
done
value platform_binds "$n"
for n in $(seq "$(option cycles 12)"); do
    traffic 4
    echo virtio0 >$virtio/unbind || stop "unbind of virtio0"
    wait
    echo virtio0 >$virtio/bind || stop "bind of virtio0"
    back reload "unbind $n during I/O"
done
value busy_binds "$n"
mark
traffic 4
value resetting 1
# Status = 0: the driver's requests under way never come back. (The kernel's iomem=relaxed lets
# us at a device that has a driver.)
devmem 0x02000070 32 0
value status_after "$(devmem 0x02000070 32)"
sleep 2
reboot -f -n
