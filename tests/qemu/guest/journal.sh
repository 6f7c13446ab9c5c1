# A guest with an ext4 that is never unmounted: mounts it (a dirty journal is replayed), verifies
# the newest files, then writes files without end and tells of each once it is synced.
. /guest/lib.sh
. /guest/disk.sh

# content N: what file N holds, of a length of its own.
content() { pattern journal "$1" | head -c $(($1 * 7919 % 60000 + 1)); }

echo 1 >/proc/sys/kernel/sysrq
wait_device /dev/vda 30 || stop "no /dev/vda"
mount -t ext4 /dev/vda /mnt || stop "the file system does not mount"
n=0
while [ -e "/mnt/$((n + 1))" ]; do n=$((n + 1)); done
# The newest one may have been under way: it was told of only if it is whole.
from=$((n > 30 ? n - 30 : 1))
whole=$n
for file in $(seq $from $n); do
    if ! content "$file" | cmp -s - "/mnt/$file"; then
        whole=$((file - 1))
        break
    fi
done
value found "$whole of $n"
n=$whole
while :; do
    n=$((n + 1))
    content $n | dd of="/mnt/$n" bs=64k iflag=fullblock conv=fsync 2>/dev/null || stop "file $n cannot be written"
    value synced $n
    value round $n
done
