# A guest that reboots itself pf.reboots= times; it counts on its disk.
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
count=$(dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null | tr -dc 0-9)
count=${count:-0}
round vda "boot" "$((count + 1))" || stop "boot $count"
value boots "$((count + 1))"
if [ "$count" -lt "$(option reboots 3)" ]; then
    { echo "$((count + 1))"; dd if=/dev/zero bs=512 count=1 2>/dev/null; } | head -c 512 >/tmp/count
    dd if=/tmp/count of=/dev/vda bs=512 oflag=direct conv=notrunc,fsync 2>/dev/null || stop "cannot count"
    reboot -f
fi
value done "$count"
