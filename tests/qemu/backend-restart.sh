# blkback leaves the guest's disk and comes back, under verified I/O: its driver is taken off the
# device and put back, and it is made to close. The guest sees nothing but the delay.
. /pf/lib.sh
. /scenarios/checks.sh

begin
driver=/sys/bus/xen-backend/drivers/vbd
image=$(raw_disk steady 32)
extra="pf.rounds=60 pf.tag=steady" check "xl create" start_guest steady rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds steady 2 40
stub=$(stub_of steady)
device=vbd-$(domid "$stub")-51712
backend=/local/domain/0/backend/vbd/$(domid "$stub")/51712
for turn in 1 2 3; do
    check "blkback is taken off the disk ($turn)" sh -c "echo $device >$driver/unbind"
    sleep 2
    equal "it serves the disk no more ($turn)" no "$([ -e $driver/$device ] && echo yes || echo no)"
    was=$(rounds_of steady)
    sleep 2
    equal "the guest waits ($turn)" "$was" "$(rounds_of steady)"
    check "blkback is put back ($turn)" sh -c "echo $device >$driver/bind"
    check "the guest goes on ($turn)" more_rounds steady 2 40
done
for turn in 1 2 3; do
    check "the backend is made to close ($turn)" xenstore-write "$backend/state" 5
    check "the guest goes on ($turn)" more_rounds steady 2 40
done
fact connected_again "$(grep -c 'connected again' "$(guest_log "$stub")")"
check "the stub has connected again, by its own words" grep -q 'connected again' "$(guest_log "$stub")"
check "the guest verifies all rounds" wait_guest_line steady 'PF done=60' 90
check "the guest powers off" wait_gone steady 30
equal "the guest saw no error" "" "$(guest_value steady error)"
check "the image holds what the guest wrote" image_holds "$image" steady 60
nothing_left
finish
