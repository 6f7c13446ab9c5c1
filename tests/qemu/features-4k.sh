# Block sizes: a backing device with blocks of 4096 bytes and one with 512 are told to the guest
# as they are and served as such; with serial numbers by configuration, and a read-only disk.
. /pf/lib.sh
. /scenarios/checks.sh

begin
big=$(raw_disk blocks-4096 32)
small=$(raw_disk blocks-512 32)
fixed=$(raw_disk blocks-ro 8)
yes "do not change me" | head -c 8388608 | dd of="$fixed" conv=notrunc 2>/dev/null
sum=$(md5sum <"$fixed" | cut -d' ' -f1)
loop=$(losetup -b 4096 -f --show "$big") || die "no loop device with blocks of 4096 bytes"
printf 'storage = "pv"\ntarget = "%s"\nserial = "blocks-of-4096"\n' "$loop" >/disks/blocks-4096.pilotfish
printf 'storage = "pv"\ntarget = "%s"\nserial = "exactly-20-printable"\n' "$small" >/disks/blocks-512.pilotfish
vcpus=2 check "xl create" start_guest blocks features-4k "$(virtio_disk xvda /disks/blocks-4096.pilotfish)" \
    "$(virtio_disk xvdb /disks/blocks-512.pilotfish)" "$(virtio_disk xvdc "$fixed" ro)"
check "the guest is done" wait_guest_line blocks 'PF \(done=1\|error=\)' 90
check "the guest powers off" wait_gone blocks 30
equal "the guest saw no error" "" "$(guest_value blocks error)"
equal "the first disk is as told" \
    "logical=4096 physical=4096 sectors=65536 ro=0 serial=blocks-of-4096" "$(guest_value blocks vda)"
equal "the second disk is as told" \
    "logical=512 physical=512 sectors=65536 ro=0 serial=exactly-20-printable" "$(guest_value blocks vdb)"
equal "the third disk is as told" \
    "logical=512 physical=512 sectors=16384 ro=1 serial=pf-51744" "$(guest_value blocks vdc)"
equal "the first takes a block of its size" "done" "$(guest_value blocks vda_direct_4096)"
equal "the second takes both sizes" "done done" "$(guest_value blocks vdb_direct_512) $(guest_value blocks vdb_direct_4096)"
equal "the third can be read" "$sum" "$(guest_value blocks vdc_sum)"
equal "and not written" refused "$(guest_value blocks vdc_direct_4096)"
equal "the third is unchanged" "$sum" "$(md5sum <"$fixed" | cut -d' ' -f1)"
for n in 8 9 10; do
    check "the first image holds round $n" image_holds_round "$big" vda $n
    check "the second image holds round $n" image_holds_round "$small" vdb $n
done
dd if="$big" of=/run/place bs=4096 skip=3 count=1 2>/dev/null
check "the first image holds the block that was written alone" sh -c 'yes "vda round 4096" | head -c 4096 | cmp -s - /run/place'
dd if="$small" of=/run/place bs=512 skip=3 count=1 2>/dev/null
check "the second image holds the sector that was written alone" sh -c 'yes "vdb round 512" | head -c 512 | cmp -s - /run/place'
dd if="$small" of=/run/place bs=4096 skip=3 count=1 2>/dev/null
check "and the block" sh -c 'yes "vdb round 4096" | head -c 4096 | cmp -s - /run/place'
dd if="$big" of=/run/place bs=512 skip=32771 count=1 2>/dev/null
check "the first image holds the sector that went through the guest's cache" \
    sh -c 'yes "sector round 0" | head -c 512 | cmp -s - /run/place'
losetup -d "$loop"
nothing_left
finish
