# What guests share whose drivers go and come back (driver-reload, grants). Source it after disk.sh.

virtio=/sys/bus/virtio/drivers/virtio_blk

# traffic WRITERS: so many writers on the second 16 MiB of the disk; they end when the disk goes. By a
# node of their own: /dev/vda goes with the disk, and a dd that came just then would make a file of
# that name, which never fails.
traffic() {
    rm -f /tmp/disk
    mknod /tmp/disk b $(tr ':' ' ' </sys/block/vda/dev) || stop "mknod"
    for writer in $(seq 0 $(($1 - 1))); do
        (while dd if=/dev/zero of=/tmp/disk bs=64k seek=$((256 + writer * 64)) count=64 oflag=direct conv=notrunc 2>/dev/null; do :; done) &
    done
    sleep 0.3
}

# back TAG WHAT: after WHAT the disk is there again and still does what a disk does.
back() {
    wait_device /dev/vda 10 || stop "no /dev/vda after $2"
    rounds=$((rounds + 1))
    round vda "$1" "$rounds" || stop "after $2"
    value round "$rounds"
}

# mark: lets the next boot know that it is the second.
mark() {
    { echo second; dd if=/dev/zero bs=1M count=1 2>/dev/null; } | head -c 1048576 >/tmp/mark
    dd if=/tmp/mark of=/dev/vda bs=1M seek=40 oflag=direct conv=notrunc,fsync 2>/dev/null || stop "cannot mark"
}

# marked: whether this is the second boot.
marked() { [ "$(dd if=/dev/vda bs=1M skip=40 count=1 2>/dev/null | head -c 6)" = second ]; }
