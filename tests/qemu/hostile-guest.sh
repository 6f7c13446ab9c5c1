# A driver that is not honest (tests/frontend, attacks/) does to its disk what a driver can do: registers,
# rings, chains, requests, memory that leaves, and changes of all that amid their use. The same stub serves a
# second disk of the same guest to an honest driver, which writes and reads between the attacks. Another guest
# has a stub of its own.
. /pf/lib.sh
. /scenarios/checks.sh

# log_bytes FILE: how much it holds.
log_bytes() { stat -c %s "$1" 2>/dev/null || echo 0; }

begin
start_bystander 100000
watch_stalls
abused=$(raw_disk abused 8)
honest=$(raw_disk honest 1)
log_mark
vcpus=${hostile_vcpus:-1} \
    start_frontend hostile "mode=${mode:-attacks}" "$(virtio_disk xvda "$abused")" "$(virtio_disk xvdb "$honest")" ||
    die "xl create"
stub=$(stub_of hostile)
told_attacks hostile 240
tell_stalls
check "there are as many as there were" test "$(wc -l </run/attacks)" -ge "${least:-80}"
check "the guest is done" wait_guest_line hostile 'PF \(done\|error\)=' 30
fact honest_requests "$(guest_value hostile honest_requests)"
check "the guest powers off" wait_gone hostile 30
check "the honest driver's disk holds what it wrote" image_holds_sectors "$honest" honest 2048
check "nothing of it is on the other disk" sh -c "! grep -a -q '^honest  ' '$abused'"
# What a hostile guest makes the stub and the daemon write, at most.
stub_log=$(guest_log "$stub")
fact stub_console_bytes "$(log_bytes "$stub_log")"
check "the stub's console stays short" test "$(log_bytes "$stub_log")" -lt 65536
check "the stub did not panic" sh -c "! grep -q PANIC '$stub_log'"
fact daemon_lines "$(daemon_lines | wc -l)"
check "the daemon's log stays short" test "$(daemon_lines | wc -l)" -lt 30
daemon_lines
tail -n 20 "$stub_log"
end_bystander
nothing_left
finish
