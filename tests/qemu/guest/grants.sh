# A guest that grants its memory: rounds on a PV disk and a RAM disk, its drivers let go and return, idle and
# during I/O, then a reboot, whose boot verifies.
. /guest/lib.sh
. /guest/disk.sh
. /guest/drivers.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
value seen_ms "$(seen_ms vda)"
if marked; then
    rounds=100
    back grants "the reboot"
    value second_boot 1
    poweroff -f
fi

dmesg | grep -i -e grant -e virtio
rounds=0
for n in $(seq 8); do
    back grants "nothing"
    round_at vdb ram "$n" $((n * 4)) 4 || stop "RAM disk"
done
value rounds "$rounds"
# Not the platform's device: Linux' grant DMA keeps a pointer to what goes with it.
bus=$(basename "$(readlink -f /sys/block/vda/device)")
for n in $(seq "$(option cycles 4)"); do
    echo "$bus" >$virtio/unbind || stop "unbind of $bus"
    [ ! -e /dev/vda ] || stop "the disk is still there"
    echo "$bus" >$virtio/bind || stop "bind of $bus"
    back grants "unbind $n"
done
value binds "$n"
for n in $(seq "$(option cycles 4)"); do
    traffic 2
    echo "$bus" >$virtio/unbind || stop "unbind of $bus"
    wait
    echo "$bus" >$virtio/bind || stop "bind of $bus"
    back grants "unbind $n during I/O"
done
value busy_binds "$n"
mark
sync
reboot -f
