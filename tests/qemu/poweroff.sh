# A guest does its work and powers off by itself: what was written is in the image, and
# nothing else is left.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk poweroff 32)
extra="pf.rounds=4 pf.tag=off pf.linger=2" check "xl create" start_guest off rounds "$(virtio_disk xvda "$image")"
check "the guest verifies its rounds" wait_guest_line off 'PF done=4' 40
equal "a stub serves it" 1 "$(count_stubs)"
check "the guest powers off" wait_gone off 30
from=$(now_ms)
no_domains 20
fact stub_gone_after_ms $(($(now_ms) - from))
equal "the guest saw no error" "" "$(guest_value off error)"
check "the image holds what the guest wrote" image_holds "$image" off 4
nothing_left
finish
