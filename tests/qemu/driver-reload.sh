# The guest's drivers let go of the device and take it again, many times, idle and during I/O; and
# the device is reset while its driver has requests under way, then the guest reboots.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk reload 48)
vcpus=2 extra="pf.cycles=12 iomem=relaxed" check "xl create" start_guest reload driver-reload "$(virtio_disk xvda "$image")"
check "virtio_blk is reloaded" wait_guest_line reload 'PF \(reloads=12\|error=\)' 90
check "the platform device is unbound and bound" wait_guest_line reload 'PF \(platform_binds=12\|error=\)' 90
check "the disk's driver is unbound and bound during I/O" wait_guest_line reload 'PF \(busy_binds=12\|error=\)' 120
check "the device is reset during I/O" wait_guest_line reload 'PF \(status_after=\|error=\)' 30
check "the second boot finds its disk" wait_guest_line reload 'PF \(second_boot=1\|error=\)' 60
check "the guest powers off" wait_gone reload 40
equal "all cycles were done: reloads" 12 "$(guest_value reload reloads)"
equal "all cycles were done: platform device" 12 "$(guest_value reload platform_binds)"
equal "all cycles were done: during I/O" 12 "$(guest_value reload busy_binds)"
equal "the device was reset" 0x00000000 "$(guest_value reload status_after)"
equal "the second boot did its round" 101 "$(guest_value reload done)"
equal "the guest saw no error" "" "$(guest_value reload error)"
# Round 101 took the place of round 21.
check "the image holds what the first boot wrote" image_holds "$image" reload 36 15
check "and what the second wrote" image_holds_round "$image" reload 101
nothing_left
finish
