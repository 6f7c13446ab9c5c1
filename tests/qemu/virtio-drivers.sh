# The virtio-drivers crate as the driver, in a guest of ours that is not Linux: it fills the
# disk, reads it back, asks for more than there is, and starts over. On a PV disk and on a RAM
# disk.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk crate 6)
printf 'storage = "pv"\ntarget = "%s"\nserial = "second-opinion"\n' "$image" >/disks/crate.pilotfish
sectors=$((6 * 2048))
check "xl create" start_frontend crate 'mode=crate tag=crate' "$(virtio_disk xvda /disks/crate.pilotfish)"
check "the guest is done" wait_guest_line crate 'PF \(done\|error\)=' 90
equal "it saw no error" "" "$(guest_value crate error)"
equal "it found the disk in its device tree" 1 "$(guest_value crate devices)"
equal "the capacity" "$sectors" "$(guest_value crate sectors)"
equal "a disk to write to" false "$(guest_value crate readonly)"
equal "the serial number" second-opinion "$(guest_value crate serial)"
equal "every sector reads as it was written" "$sectors" "$(guest_value crate verified_sectors)"
equal "an interrupt is told" 1 "$(guest_value crate interrupt_told)"
equal "until it is acknowledged" 1 "$(guest_value crate interrupt_acknowledged)"
equal "requests beyond the end are refused, reads and writes" 10 "$(guest_value crate refused)"
equal "and change nothing" 1 "$(guest_value crate last_sector_kept)"
equal "a second driver finds the disk as it was" 1 "$(guest_value crate second_driver)"
fact crate_requests "$(($(guest_value crate writes) + $(guest_value crate reads)))"
fact crate_ms "$(guest_value crate ms)"
check "the guest powers off" wait_gone crate 30
check "the image holds every sector" image_holds_sectors "$image" crate "$sectors"

check "xl create with a RAM disk beside the other, read-only" start_frontend crateram 'mode=crate tag=memory disk=1' \
    "$(virtio_disk xvda "$image" ro)" "$(virtio_disk xvdb "$(ram_disk crateram 4)")"
check "the guest is done" wait_guest_line crateram 'PF \(done\|error\)=' 90
equal "it saw no error" "" "$(guest_value crateram error)"
equal "both disks" 2 "$(guest_value crateram devices)"
equal "every sector of the RAM disk" 8192 "$(guest_value crateram verified_sectors)"
equal "requests beyond its end are refused" 10 "$(guest_value crateram refused)"
check "the guest powers off" wait_gone crateram 30
check "the other disk's image is as it was" image_holds_sectors "$image" crate "$sectors"
nothing_left
finish
