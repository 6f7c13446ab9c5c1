# A guest with a read-only disk: what it sees, what becomes of a write.
. /guest/lib.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
value ro "$(cat /sys/block/vda/ro)"
value sum "$(dd if=/dev/vda bs=64k iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1)"
if dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct conv=notrunc,fsync 2>/tmp/why; then
    value write succeeded
else
    value write failed
fi
cat /tmp/why
value done 1
