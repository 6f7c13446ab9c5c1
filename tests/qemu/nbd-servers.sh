# NBD servers of others, in what they offer and in what they do wrong: nbdkit with its filters, and QEMU's storage daemon.
# Three guests have three disks each. (xl waits 10 s for a guest's disks, and nine at once take the emulator longer.)
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/nbd-disks.sh

# on PORT NAME: the target of a disk on the server at that port.
on() { server=10.0.0.1:$1 nbd_disk "$2" any; }
# part NUMBER DISK DISK DISK: starts a guest with these disks.
part() {
    vcpus=2 extra="pf.part=$1" start_guest servers nbd-servers \
        "$(virtio_disk xvda $2)" "$(virtio_disk xvdb "$3")" "$(virtio_disk xvdc "$4")" || die "xl create of guest $1"
    pass "guest $1 starts"
}
# part_ends: the guest is done and goes.
part_ends() {
    check "the guest is done" wait_guest_line servers 'PF \(done=1\|error=\)' 120
    told error "" "it saw no other error"
    check "it powers off" wait_gone servers 30
    no_domains 30
}
# qemu_start: starts QEMU's storage daemon.
qemu_start() {
    qemu-storage-daemon --daemonize --pidfile /run/qemu-storage-daemon.pid \
        --blockdev "driver=file,node-name=image,filename=$qemu,discard=unmap" \
        --nbd-server addr.type=inet,addr.host=10.0.0.1,addr.port=10819 \
        --export type=nbd,id=disk,node-name=image,name=any,writable=on && wait_for 5 pf_listens 10819
}
# wanted WHAT: waits until the guest wants that.
wanted() { wait_guest_line servers "PF \(want=$1\|error=\)" 120 || die "the guest does not come to want $1"; }
# told KEY EXPECTED WHAT
told() { equal "$3" "$2" "$(guest_value servers "$1")"; }

begin
check "dom0 has a bridge" network_start
golden=$(raw_disk golden 16)
pattern golden 0 | dd of="$golden" conv=notrunc 2>/dev/null
qemu=$(raw_disk qemu 32)
# 8 MiB and 700 bytes.
for name in odd odd-blocks; do
    raw_disk "$name" 8 >/dev/null
    yes | head -c 700 >>"/disks/$name.img"
done
copy=$(raw_disk copy 32)
sum=$(sha256sum "$golden" "$copy")

nbdkit_start 10811 --filter=delay file "$(raw_disk slow 32)" rdelay=100ms wdelay=200ms &&
    nbdkit_start 10812 --filter=error file "$(raw_disk broken 32)" \
        error-pwrite=ENOSPC error-pwrite-rate=100% error-pwrite-file=/run/no-space \
        error-pread=EIO error-pread-rate=100% error-pread-file=/run/no-reads &&
    nbdkit_start 10813 --filter=error file "$(raw_disk shaky 32)" error=EIO error-rate=20% &&
    nbdkit_start 10814 --filter=cow file "$copy" &&
    nbdkit_start 10815 --filter=blocksize-policy file "$(raw_disk blocks 32)" blocksize-error-policy=error \
        blocksize-minimum=4096 blocksize-preferred=16384 blocksize-maximum=65536 &&
    nbdkit_start 10816 --readonly file "$golden" &&
    nbdkit_start 10817 file /disks/odd.img &&
    nbdkit_start 10818 --filter=blocksize-policy file /disks/odd-blocks.img blocksize-minimum=4096 &&
    nbdkit_start 10820 --filter=blocksize-policy memory 8M \
        blocksize-minimum=8192 blocksize-preferred=8192 blocksize-maximum=1M || die "nbdkit does not start"
check "QEMU's storage daemon starts" qemu_start

disk_refused "a disk with blocks of 8192 bytes" \
    "disk sda \(2048\): .*NBD server 10.0.0.1:10820: the export's blocks are larger than 4096 bytes" "$(virtio_disk sda "$(on 10820 bad)")"
disk_refused "writing to nbdkit's read-only export" \
    'disk sda \(2048\): .*NBD server 10.0.0.1:10816: the export is read-only' "$(virtio_disk sda "$(on 10816 bad)")"

rm -f /run/no-space /run/no-reads
part 1 "$(on 10811 slow)" "$(on 10812 broken)" "$(on 10819 qemu)"
wanted no-space
# Block, physical block, bytes, read-only.
told vda "512 4096 33554432 0" "a plain disk is as the server says"
told slow 0 "a slow server's disk holds what was written"
check "which takes as long as the server does ($(guest_value servers slow_ms) ms)" test "$(guest_value servers slow_ms)" -ge 4800
check "another disk does not wait for it ($(guest_value servers beside) rounds)" test "$(guest_value servers beside)" -ge 2
told eight 0 "eight requests at once are right"
at_once=$(guest_value servers at_once_ms) in_turn=$(guest_value servers in_turn_ms)
# Seven waits of 200 ms are saved, and the rest of the work is the same.
check "and wait together (at once $at_once ms, in turn $in_turn ms)" test "$((at_once + 700))" -lt "$in_turn"
touch /run/no-space
wanted space
told before 0 "a write before there is no space is done"
told no_space 0 "a write without space fails"
told no_space_reads 0 "reads do not"
told no_space_beside 0 "and no other disk notices"
rm /run/no-space
wanted no-reads
told space 0 "with space the write is done"
touch /run/no-reads
wanted reads
told no_reads 0 "a read that the server fails, fails"
told no_reads_writes 0 "writes do not"
rm /run/no-reads
wanted kill
told reads 0 "all is there when it reads again"
told qemu_large 0 "QEMU's storage daemon holds a request of 1 MiB"
told qemu_discard 0 "and discards"
pf_gone() { ! pf_listens 10819; }
for _ in 1 2 3; do
    sleep 1
    check "QEMU's storage daemon is killed" killall -KILL qemu-storage-daemon
    wait_for 5 pf_gone
    sleep 1
    check "it starts again" qemu_start
    check "the guest goes on" more_rounds servers 2 60
done
part_ends
check "QEMU's image holds what the guest wrote" image_holds "$qemu" qemu 20

part 2 "$(on 10813 shaky)" "$(on 10814 copy)" "$(on 10815 blocks)"
part_ends
told vdc "4096 16384 33554432 0" "a disk has blocks of 4096 bytes if its server says so"
check "of a server that fails one request in five, some failed ($(guest_value servers failed))" test "$(guest_value servers failed)" -gt 0
told copy 0 "a copy on write holds what was written"
told blocks 0 "so do blocks of 4096 bytes, and no request is too large for their server"
told blocks_large 0 "nor is one of 1 MiB"
told blocks_small 0 "512 bytes are changed with the block that they are in"

part 3 "$(on 10816 golden) ro" "$(on 10817 odd)" "$(on 10818 odd-blocks)"
part_ends
told vda "512 4096 16777216 1" "a read-only export is a read-only disk"
told vdb "512 4096 8389120 0" "whole sectors of an odd size are there"
told vdc "4096 4096 8388608 0" "and whole blocks of 4096 bytes"
told golden 0 "a read-only export reads as it is"
told golden_write 1 "and takes no write"
told odd 0 "the last whole sector is written and read"
told odd_blocks 0 "so is the last whole block of 4096 bytes"
check "the image below the copy, and that of the read-only export, are unchanged" test "$sum" = "$(sha256sum "$golden" "$copy")"
check "what is more than whole sectors is unchanged" cmp <(tail -c 188 /disks/odd.img) <(yes | head -c 188)
check "what is more than whole blocks is unchanged" cmp <(tail -c 700 /disks/odd-blocks.img) <(yes | head -c 700)
nothing_left
killall -KILL nbdkit qemu-storage-daemon
finish
