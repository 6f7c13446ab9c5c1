# Three reboots: each boot has a new domid and a new stub, and what the boots before wrote.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk reboots 32)
extra="pf.reboots=3" check "xl create" start_guest reboots reboots "$(virtio_disk xvda "$image")"
seen=/run/stubs.seen
: >$seen
most=0
deadline=$(($(now_ms) + 120000))
until pf_logged reboots 'PF done=3' || [ "$(now_ms)" -gt "$deadline" ]; do
    domains | grep '^pilotfish-' >>$seen
    now=$(count_stubs)
    [ "$now" -le "$most" ] || most=$now
    sleep 0.3
done
check "the guest counts four boots on its disk" pf_logged reboots 'PF boots=4'
check "the guest powers off" wait_gone reboots 30
equal "each boot had a stub of its own" 4 "$(sort -u $seen | wc -l)"
equal "never two stubs at once" 1 "$most"
equal "the guest saw no error" "" "$(guest_value reboots error)"
for boot in 1 2 3 4; do
    check "the image holds what boot $boot wrote" image_holds_round "$image" boot $boot
done
nothing_left
finish
