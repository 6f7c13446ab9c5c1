# The storage backend stays away for longer than backend-timeout-ms: requests fail, none hangs, and
# when it comes back the disk works again.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk gone 32)
printf 'storage = "pv"\ntarget = "%s"\nbackend-timeout-ms = 4000\n' "$image" >/disks/gone.pilotfish
check "xl create" start_guest gone backend-gone "$(virtio_disk xvda /disks/gone.pilotfish)"
check "the guest does I/O" wait_guest_line gone 'PF good_before=0' 40
stub=$(stub_of gone)
check "xl detaches the stub's disk" timeout 60 xl block-detach "$stub" xvda
check "the guest gets an error" wait_guest_line gone 'PF bad_again_ms=' 60
check "its I/O fails" test "$(guest_value gone bad)" -gt 0
echo "the guest's dd said: $(guest_value gone why)"
fact first_error_ms "$(guest_value gone bad_ms)"
check "after the timeout, not before" test "$(guest_value gone bad_ms)" -ge 3000
equal "the next one too" 1 "$(guest_value gone bad_again)"
fact next_error_ms "$(guest_value gone bad_again_ms)"
check "and at once" test "$(guest_value gone bad_again_ms)" -lt 2000
check "xl attaches the disk again" timeout 60 xl block-attach "$stub" \
    "vdev=xvda,format=raw,backendtype=phy,script=/usr/sbin/pilotfishd,access=rw,target=$image"
check "the guest is done" wait_guest_line gone 'PF done=1' 60
equal "the disk works again" 0 "$(guest_value gone good_after)"
equal "what was written before is there" 0 "$(guest_value gone kept)"
check "the guest powers off" wait_gone gone 30
equal "the guest saw no other error" "" "$(guest_value gone error)"
nothing_left
finish
