# What the disk can do beyond reading and writing, as an unmodified kernel uses it, and a
# backing image that grows and shrinks under the running guest.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk features 32)
vcpus=2 check "xl create" start_guest features features "$(virtio_disk xvda "$image")"
wait_guest_line features 'PF sectors=65536' 60 || die "the guest does not come to growing: $(guest_value features error)"
equal "it reads ahead by twice what the disk calls optimal" 512 "$(guest_value features read_ahead_kib)"
equal "a queue for each CPU" 2 "$(guest_value features queues)"
equal "the write cache is on at first" write-back "$(guest_value features cache_first)"
equal "it can be switched off" write-through "$(guest_value features cache_second)"
equal "and on" write-back "$(guest_value features cache_third)"
check "the disk offers discard" test "$(guest_value features discard_max)" -gt 0
check "and zeroing" test "$(guest_value features zeroes_max)" -gt 0
equal "what was discarded is gone" 1 "$(guest_value features after_discard_1)"
equal "what lies before it stays" 1 "$(guest_value features after_discard_0)"
equal "what lies behind it stays" 1 "$(guest_value features after_discard_2)"

equal "zeros come by one request" 1 "$(guest_value features zero_requests)"
equal "and are there, and nowhere else" 1 "$(guest_value features zeroes)"
equal "zeros with leave to unmap are there, and nowhere else" 1 "$(guest_value features punched)"

loop=$(losetup -j "$image" | cut -d: -f1)
dd if=/dev/zero of="$image" bs=1M count=0 seek=48 2>/dev/null
check "the loop device grows" losetup -c "$loop"
check "the guest writes beyond the old end" wait_guest_line features 'PF \(grown=1\|error=\)' 60
equal "the guest saw the disk grow" 98304 "$(guest_value features sectors)"
dd if="$image" of=/run/place bs=1M skip=47 count=1 2>/dev/null
check "what it wrote beyond the old end is in the image" \
    sh -c 'yes "grown round 0" | head -c 1048576 | cmp -s - /run/place'
truncate -s 24M "$image"
check "the loop device shrinks" losetup -c "$loop"
check "the guest is done" wait_guest_line features 'PF done=1' 60
equal "the guest saw the disk shrink" 49152 "$(guest_value features sectors)"
equal "there is nothing to read beyond the new end" 0 "$(guest_value features read_beyond)"
check "the guest powers off" wait_gone features 30
equal "the guest saw no error" "" "$(guest_value features error)"
dd if="$image" of=/run/place bs=1M skip=23 count=1 2>/dev/null
check "what it wrote below the new end is in the image" \
    sh -c 'yes "shrunk round 0" | head -c 1048576 | cmp -s - /run/place'
equal "the image has the size it shrank to" $((24 << 20)) "$(stat -c %s "$image")"
nothing_left
finish
