# A stub maps the pages of its guest in which Xen tells the guest of events, and contends for the words
# that Xen sets: by plain stores, by exclusives, and by LSE atomics where the CPU has them. Meanwhile dom0
# (console) and a neighbour send the guest events. Measured: how late dom0's heartbeat is, how long a send of
# the neighbour's takes, and how late a bystander's sleep ends that has nothing to do with any of them.
#
# attack stores_pending: plain stores to a word of the guest's pending events
# attack exclusives_pending: exclusive loads and stores to that word
# attack lse_pending: LSE atomics on that word
# attack stores_upcall: plain stores beside the byte that tells a vCPU of events
# attack exclusives_upcall: exclusive loads and stores there
# attack lse_upcall: LSE atomics there
# attack granted_building: the label of a stub that is set up maps the pages of a guest that grants its memory
# attack granted: the label of a stub that serves maps them
#
# Under a policy by which stubs have what their guest grants and no more, Xen must refuse the mapping instead.
. /pf/lib.sh
. /scenarios/checks.sh

# worst NAME FIELD FROM TO: the largest value of that field (sends, us of a send, us too late) in a
# domain's lines `PF span=`, from line FROM to TO - 1 of its console.
worst() {
    sed -n "$3,$(($4 - 1))p" "$(guest_log "$1")" | tr -d '\r' | awk -v field="$2" '
        /PF span=/ { value = $(NF - 3 + field); if (value + 0 > most) most = value + 0 }
        END { print most + 0 }'
}

begin
expected=ok
if [ -e /pf/xenpolicy ] && [ -e /pf/grants ]; then expected=EACCES; fi
ways='stores exclusives'
grep -q '^Features.* atomics' /proc/cpuinfo && ways="$ways lse"
phases='quiet stores_own'
for place in pending upcall; do for way in $ways; do phases="$phases ${way}_$place"; done; done

rm -f /run/stall.*
echo setup >/run/phase
heartbeat &
heartbeat=$!
check "a bystander starts" start_frontend bystander 'mode=send'
# A guest names in advance who may connect to its port. With labels of ours no guest may; dom0 alone then sends.
neighbour=$(($(domid bystander) + 2))
[ ! -e /pf/xenpolicy ] || neighbour=0
check "a guest for the hostile stub starts" start_frontend victim "mode=receive peer=$neighbour"
check "the guest tells where its pages are" wait_guest_line victim 'PF vcpu_info=' 20
if [ $neighbour != 0 ]; then
    check "a neighbour starts" start_frontend neighbour "mode=send peer=$(domid victim) port=$(guest_value victim port)"
    equal "the neighbour is who the port is for" $neighbour "$(domid neighbour)"
    check "the neighbour sends events" wait_guest_line neighbour 'PF span=' 20
    label=
else
    label=$(label victim stub)
fi
label=$label check "the hostile stub runs" launch_stub shared shared_page "$(domid victim)" seconds=1 \
    "shared-info=$(guest_value victim shared_info)" "vcpu-info=$(guest_value victim vcpu_info)"
wait_guest_line shared 'PF mapped=' 20 || die "the stub has not tried the mapping"
mapped=$(guest_value shared mapped)
fact mapped "$mapped"

# Where each is when a phase begins: the lines of the guests' consoles, dom0's clock.
declare -A at
phase=
late=0
order=
deadline=$(($(now_ms) + 100000))
until [ "$phase" = idle ] || [ "$(now_ms)" -gt "$deadline" ]; do
    now=$(guest_value shared phase)
    if [ -n "$now" ] && [ "$now" != "$phase" ]; then
        phase=$now
        echo "$phase" >/run/phase
        for name in bystander neighbour victim; do at[$name.$phase]=$(lines_of $name); done
        at[ms.$phase]=$(now_ms)
        order="$order $phase"
    fi
    sleep 0.2
done
check "the stub went through its phases" wait_guest_line shared 'PF done=1' 5
equal "the hostile stub met no error" "" "$(guest_value shared error)"
equal "Xen's answer to the mapping of its guest's pages" "$expected" "$mapped"
if [ "$expected" = ok ]; then
    equal "it went through them in order" " $phases idle" "$order"
    for phase in $phases; do
        next=$(echo "$order" | sed -n "s/.* $phase \([a-z_]*\).*/\1/p")
        attack $phase
        fact "dom0_late_ms_$phase" "$(cat /run/stall.$phase)"
        check "dom0 never stalls for 10 s during $phase" test "$(cat /run/stall.$phase)" -lt 10000
        bystander_late=$(worst bystander 3 "${at[bystander.$phase]}" "${at[bystander.$next]}")
        fact "bystander_late_us_$phase" "$bystander_late"
        lines=$((${at[victim.$next]:-0} - ${at[victim.$phase]:-0}))
        check "the guest goes on during $phase ($lines lines)" test $lines -ge 5
        [ $neighbour = 0 ] ||
            fact "send_us_$phase" "$(worst neighbour 2 "${at[neighbour.$phase]}" "${at[neighbour.$next]}")"
        case $phase in
            quiet) fact stall_bystander_quiet_ms $((bystander_late / 1000)) ;;
            *_own) ;;
            *)
                [ "$bystander_late" -le $late ] || late=$bystander_late
                if [ $neighbour != 0 ]; then
                    changes=$(guest_value shared "changes_$phase")
                    fact "changes_$phase" "$changes"
                    check "Xen comes to the word that is contended for in $phase" test "$changes" -ge 20
                fi
                attacked $((at[ms.$next] - at[ms.$phase])) "stalls=$(cat /run/stall.$phase)/$((bystander_late / 1000))"
                ;;
        esac
    done
    fact stall_dom0_quiet_ms "$(cat /run/stall.quiet)"
    fact stall_dom0_ms "$(worst_stall)"
    fact stall_bystander_ms $((late / 1000))
fi
for place in pending upcall; do
    for way in stores exclusives lse; do
        case "$expected $phases " in
            ok*" ${way}_$place "*) ;;
            ok*) no_attack ${way}_$place "this CPU has no LSE atomics" ;;
            *) no_attack ${way}_$place "Xen refused the mapping: $mapped" refused ;;
        esac
    done
done
kill $heartbeat
check "Xen answers" xl info
for name in shared neighbour victim bystander; do
    [ -z "$(domid $name)" ] || check "$name is destroyed" xl destroy $name
done
# By the labels of a stub that has what its guest grants and no more: the one for its set-up, then the other.
if [ -e /pf/xenpolicy ] && [ ! -e /pf/grants ]; then
    check "a guest that grants its memory starts" start_frontend granting 'mode=receive peer=0'
    check "it tells where its pages are" wait_guest_line granting 'PF vcpu_info=' 20
    for suffix in _building ''; do
        stub=granted$suffix first=
        attack $stub
        [ -n "$suffix" ] || first=$(label granting stub)_building
        label=$(label granting stub)$suffix first_label=$first check "the hostile stub runs as $stub" \
            launch_stub $stub shared_page "$(domid granting)" "shared-info=$(guest_value granting shared_info)" \
            "vcpu-info=$(guest_value granting vcpu_info)"
        check "$stub has tried the mapping" wait_guest_line $stub 'PF done=1' 20
        equal "Xen refuses $stub its guest's pages" EACCES "$(guest_value $stub mapped)"
        held=refused attacked
        xl destroy $stub
    done
    check "the guest that grants its memory is destroyed" xl destroy granting
else
    for suffix in _building ''; do no_attack granted$suffix "labels are FLASK's, and this machine's stubs map"; done
fi
nothing_left
finish
