# access=ro: the guest sees a read-only disk, cannot write to it, and the image stays as it was.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk readonly 8)
yes "do not change me" | head -c 8388608 | dd of="$image" conv=notrunc 2>/dev/null
sum=$(md5sum <"$image" | cut -d' ' -f1)
check "xl create" start_guest readonly read-only "$(virtio_disk xvda "$image" ro)"
check "the guest is done" wait_guest_line readonly 'PF done=1' 40
check "the guest powers off" wait_gone readonly 30
equal "the guest sees a read-only disk" 1 "$(guest_value readonly ro)"
equal "the guest reads what the image holds" "$sum" "$(guest_value readonly sum)"
equal "a write fails" failed "$(guest_value readonly write)"
equal "the image is unchanged" "$sum" "$(md5sum <"$image" | cut -d' ' -f1)"
nothing_left
finish
