# The stub's own memory protection, on real Xen: a write to its code, a jump into its data and an
# access to unmapped memory each end the domain as crashed, with a reason on its console.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# crashed NAME: whether Xen holds it as shut down by a crash (kept: on_crash is preserve).
crashed() { xl list "$1" 2>/dev/null | awk 'NR == 2 { print $5 }' | grep -q c; }
for fault in unmapped code data; do
    # How Arm calls it: a write is a data abort; a jump is an instruction abort.
    abort='data abort'
    [ $fault != data ] || abort='instruction abort'
    name=fault-$fault
    targeted=no check "$fault: the image runs" launch_stub "$name" faulter 0 "fault=$fault"
    check "$fault: it tries" wait_guest_line "$name" 'PF trying=1' 20
    check "$fault: the domain crashes" wait_for 10 crashed "$name"
    equal "$fault: it did not live on" "" "$(guest_value "$name" error)"
    check "$fault: its console tells of a $abort" wait_guest_line "$name" "PANIC: .*($abort)" 5
    grep 'PANIC\|ESR' "$(guest_log "$name")"
    xl destroy "$name"
done
nothing_left
finish
