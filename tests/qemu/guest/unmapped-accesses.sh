# A guest whose stub goes while its disks are idle; it is told by a line on its console.
. /guest/lib.sh
. /guest/disk.sh

magic() { devmem 0x02000000 32 2>/dev/null; }

wait_device /dev/vda 30 || stop "no /dev/vda"
wait_device /dev/vdb 30 || stop "no /dev/vdb"
round_at vda unmapped 1 0 16 || stop "before"
value magic "$(magic)"
value ready 1
read -r _ </dev/hvc0
value no_magic "$(magic)"
# From here on only where that was no fault.
[ -n "$(magic)" ] || sleep 600
dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
sleep 3
if kill -0 $! 2>/dev/null; then value request waiting; else value request ended; fi
driver=/sys/bus/platform/drivers/virtio-mmio
device=$(basename "$(readlink -f /sys/class/block/vdb/device/..)")
echo "$device" >$driver/unbind || stop "unbind of $device"
if echo "$device" 2>/dev/null >$driver/bind; then value rebound device; else value rebound "no device"; fi
