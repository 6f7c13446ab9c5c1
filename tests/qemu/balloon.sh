# The guest gives memory back to Xen and gets it again, under I/O: each time Xen tells the stub
# to drop its mappings, and waits for it.
. /pf/lib.sh
. /scenarios/checks.sh

begin
guest_mib() { xl list balloon | awk 'NR == 2 { print $3 }'; }
pf_mib_at_most() { [ "$(guest_mib)" -le "$1" ] 2>/dev/null; }
pf_mib_at_least() { [ "$(guest_mib)" -ge "$1" ] 2>/dev/null; }
# What `xl mem-set` tells the guest. xl 4.20 itself ends with a failed assertion on Arm.
mem_set() { xenstore-write "/local/domain/$(domid balloon)/memory/target" $(($1 * 1024)); }
image=$(raw_disk balloon 32)
memory=256 extra="pf.rounds=30 pf.tag=air" check "xl create" start_guest balloon rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds balloon 2 40
for size in 192 250 192 250; do
    was=$(guest_mib)
    check "the guest is told to have $size MiB" mem_set "$size"
    if [ "$size" -lt "$was" ]; then
        check "the guest gives memory back (from $was to $size MiB)" wait_for 20 pf_mib_at_most $((size + 2))
    else
        check "the guest gets memory again (from $was to $size MiB)" wait_for 20 pf_mib_at_least $((size - 2))
    fi
    check "I/O goes on" more_rounds balloon 2 40
done
check "the guest verifies all rounds" wait_guest_line balloon 'PF done=30' 60
check "the guest powers off" wait_gone balloon 30
equal "the guest saw no error" "" "$(guest_value balloon error)"
check "the image holds what the guest wrote" image_holds "$image" air 30
nothing_left
finish
