# A stub contends for the ioreq page and its shared_info page by exclusives, and by LSE atomics where
# the CPU has them, while its guest keeps accessing the device; then it fills the page with
# nonsense; at last it lets an access go backwards, for which Xen crashes its guest. Xen, dom0 (a heartbeat) and a bystander that does verified I/O must live; the
# hostile stub's own guest need not.
#
# attack exclusives_slot: exclusive loads and stores on the ioreq slot of a guest that uses its device
# attack exclusives_events: the same on the event bits that Xen sets for this stub
# attack lse_slot: LSE atomics on that slot
# attack lse_events: LSE atomics on those event bits
# attack rewrite: the slot is filled with nonsense, and its event channel is kicked
# attack backwards: the state of an access goes back to one that it had
. /pf/lib.sh
. /scenarios/checks.sh

begin
lse=0
grep -q '^Features.* atomics' /proc/cpuinfo && lse=1
fact lse $lse
phases='exclusives_slot exclusives_events rewrite'
[ $lse = 0 ] || phases='exclusives_slot exclusives_events lse_slot lse_events rewrite'

start_bystander 400
watch_stalls setup
check "a guest for the hostile stub is made" xl create -p "$(guest_config victim mmio)"
: >"$(guest_log victim)"
check "the hostile stub runs" launch_stub contention contention "$(domid victim)" seconds=10
check "it serves" wait_guest_line contention 'PF serving=1' 30
xl unpause victim

declare -A rounds_at began_ms line_at
order=
phase=
deadline=$(($(now_ms) + 180000))
until [ "$phase" = idle ] || [ "$(now_ms)" -gt "$deadline" ]; do
    now=$(guest_value contention phase)
    if [ -n "$now" ] && [ "$now" != "$phase" ]; then
        phase=$now
        echo "$phase" >/run/phase
        began_ms[$phase]=$(now_ms)
        line_at[$phase]=$(lines_of bystander)
        rounds_at[$phase]=$(rounds_of bystander)
        order="$order $phase"
        echo "phase $phase: the bystander has done ${rounds_at[$phase]} rounds"
    fi
    sleep 0.2
done
check "the guest reads what the stub answers" pf_logged victim 'PF access=.* 0x74726976'
attack backwards
equal "an access went backwards" 1 "$(guest_value contention went_backwards)"
check "Xen crashes the guest for it" wait_gone victim 30
attacked
echo after >/run/phase
check "it went through all phases" wait_guest_line contention 'PF done=1' 5
equal "the hostile stub met no error" "" "$(guest_value contention error)"
equal "the stub sees LSE as dom0 does" $lse "$(guest_value contention lse)"

# The rounds that the bystander did in a phase: up to the start of the next.
for phase in $phases; do
    attack $phase
    next=$(echo "$order" | sed -n "s/.* $phase \([a-z_]*\).*/\1/p")
    done_in=$((${rounds_at[$next]:-0} - ${rounds_at[$phase]:-0}))
    fact "bystander_rounds_$phase" $done_in
    check "the bystander does verified I/O during $phase" test $done_in -ge 1
    fact "worst_stall_ms_$phase" "$(cat /run/stall.$phase)"
    check "dom0 never stalls for 10 s during $phase" test "$(cat /run/stall.$phase)" -lt 10000
    if [ "$phase" != rewrite ]; then
        answered=$(guest_value contention "answered_$phase")
        fact "accesses_$phase" "$answered"
        check "Xen comes to the page during $phase ($answered accesses)" test "$answered" -ge 20
    fi
    attacked $((${began_ms[$next]:-0} - ${began_ms[$phase]:-0})) \
        "$(stalls "$phase" $((${line_at[$phase]:-0} + 1)) "${line_at[$next]:-0}")"
done
if [ $lse = 0 ]; then
    for phase in lse_slot lse_events; do no_attack $phase "this CPU has no LSE atomics"; done
fi
fact worst_stall_ms_honest "$(cat /run/stall.honest)"
check "Xen answers" xl info
sleep 3
tell_stalls
xl destroy contention
[ -z "$(domid victim)" ] || xl destroy victim
check "the bystander goes on afterwards" more_rounds bystander 2 60
equal "the bystander saw no error" "" "$(guest_value bystander error)"
# It may be in a round later than the last one told.
rounds=$(rounds_of bystander)
check "xl destroys the bystander" xl destroy bystander
check "the bystander's image holds what it wrote" image_holds "$bystander_image" witness "$rounds" 12
nothing_left
finish
