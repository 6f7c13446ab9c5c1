# xl destroy while four writers keep the disk busy: everything goes, at once, and the image is
# free for the next guest.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk heavy 32)
check "xl create" start_guest heavy heavy "$(virtio_disk xvda "$image")"
check "the guest writes" more_rounds heavy 2 60
from=$(now_ms)
check "xl destroy" timeout 40 xl destroy heavy
fact destroy_ms $(($(now_ms) - from))
no_domains 20
fact all_gone_ms $(($(now_ms) - from))
equal "the guest saw no error before" "" "$(guest_value heavy error)"
nothing_left
extra="pf.rounds=2 pf.tag=next" check "xl create of another guest on the same image" start_guest next rounds "$(virtio_disk xvda "$image")"
check "it verifies its rounds" wait_guest_line next 'PF done=2' 40
check "it powers off" wait_gone next 30
check "the image holds what it wrote" image_holds "$image" next 2
nothing_left
finish
