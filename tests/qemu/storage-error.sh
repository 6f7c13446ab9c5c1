# The storage has no room for part of the image (a sparse file in a full tmpfs): writes to that
# part fail in the guest, all others succeed, and once there is room, so do they.
. /pf/lib.sh
. /scenarios/checks.sh

begin
mkdir -p /run/small
mount -t tmpfs -o size=24m small /run/small || die "no tmpfs"
dd if=/dev/zero of=/run/small/error.img bs=1M count=8 2>/dev/null
dd if=/dev/zero of=/run/small/error.img bs=1M count=0 seek=64 2>/dev/null
dd if=/dev/zero of=/run/small/filler bs=64k 2>/dev/null
check "xl create" start_guest error storage-error "$(virtio_disk xvda /run/small/error.img)"
check "the guest has met the error" wait_guest_line error 'PF room_wanted=1' 40
equal "a write beside it succeeds before" 0 "$(guest_value error good_before)"
equal "the write without room fails" 1 "$(guest_value error bad)"
echo "the guest's dd said: $(guest_value error why)"
equal "a write beside it succeeds after" 0 "$(guest_value error good_after)"
rm /run/small/filler
check "the guest is done" wait_guest_line error 'PF done=1' 40
equal "with room, the same write succeeds" 0 "$(guest_value error bad_with_room)"
check "the guest powers off" wait_gone error 30
nothing_left
check "the image is not in use" umount /run/small
finish
