# A driver that grants its memory to its stub and is not honest (tests/frontend, attacks/grants/): grants that it takes
# back, that are of others, or are none. The same stub serves a second disk of the same guest to an honest driver that
# grants too. A bystander has a stub of its own.
. /pf/lib.sh
. /scenarios/checks.sh

begin
start_bystander 100000
check "a stub waits" stub_waits hostile
stub_name=$(waiting_stub hostile)
waiting=$(domid "$stub_name")
abused=$(raw_disk abused 8)
honest=$(raw_disk honest 1)
watch_stalls
log_mark
start_frontend hostile "mode=attacks-by-grants stub=$waiting" "$(granted_disk "$stub_name" xvda "$abused")" \
    "$(granted_disk "$stub_name" xvdb "$honest")" || die "xl create"
stub=$(stub_of hostile)
equal "its stub is the one that waited" "$waiting" "$(domid "$stub")"
told_attacks hostile 120
tell_stalls
made=$(wc -l </run/attacks)
check "there are as many as there were" test "$made" -ge 19
check "the guest is done, and each grant was given back" wait_guest_line hostile 'PF done=1' 30
check "the guest powers off" wait_gone hostile 30
pf_honest_holds() { sectors honest 0 "$made" | cmp -s -n $((made * 512)) - "$honest"; }
check "the honest driver's disk holds what it wrote" pf_honest_holds
check "nothing of it is on the other disk" sh -c "! grep -a -q '^honest  ' '$abused'"
stub_log=$(guest_log "$stub_name")
check "the stub's console stays short" test "$(cat "$stub_log" | wc -c)" -lt 65536
check "the stub did not panic" sh -c "! grep -q PANIC '$stub_log'"
check "the daemon's log stays short" test "$(daemon_lines | wc -l)" -lt 40
daemon_lines
tail -n 20 "$stub_log"
end_bystander
nothing_left
finish
