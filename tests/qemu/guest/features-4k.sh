# A guest with three disks: blocks of 4096 bytes, blocks of 512, and a read-only one.
. /guest/lib.sh
. /guest/disk.sh

# describe DISK: what the kernel knows of it.
describe() {
    value "$1" "logical=$(cat "/sys/block/$1/queue/logical_block_size") physical=$(cat "/sys/block/$1/queue/physical_block_size") sectors=$(cat "/sys/block/$1/size") ro=$(cat "/sys/block/$1/ro") serial=$(cat "/sys/block/$1/serial")"
}

# direct DISK BYTES: whether one direct write of that many bytes succeeds, at an odd block.
direct() {
    if pattern "$1" "$2" "$2" | dd of="/dev/$1" bs="$2" seek=3 iflag=fullblock oflag=direct conv=notrunc 2>/dev/null; then
        value "$1_direct_$2" done
    else
        value "$1_direct_$2" refused
    fi
}

for disk in vda vdb vdc; do
    wait_device /dev/$disk 30 || stop "no /dev/$disk"
    describe $disk
done
direct vdb 512
for disk in vda vdb; do
    direct $disk 4096
    for n in 8 9 10; do round $disk "$disk" $n || stop "round $n on $disk"; done
done
# A write of one sector through the page cache: a whole block is read, changed and written.
pattern sector 0 512 | dd of=/dev/vda bs=512 seek=32771 conv=notrunc,fsync 2>/dev/null || stop "a sector through the cache"
value vdc_sum "$(dd if=/dev/vdc bs=64k iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1)"
direct vdc 4096

value done 1
