# xl is killed while it makes a stub, at many moments: between making a domain and naming it, it
# leaves one without a name. Xen's own list tells of it, and the daemon removes it. Somebody else's
# domain stays, whatever its UUID.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# stub_config NAME GUEST NUMBER: what the daemon has xl make, for a guest that does not exist.
stub_config() {
    cat >/run/half.cfg <<END_OF_CONFIG
name = '$1'
uuid = '$(printf '70696c6f-7466-8000-8000-%04x0000%04x' "$2" "$3")'
type = 'pvh'
kernel = '/usr/lib/pilotfish/pilotfish.img'
memory = 8
vcpus = 1
END_OF_CONFIG
}
# unnamed: how many domains have no name.
unnamed() { xl list | grep -c '^(null)'; }
pf_no_half() { [ "$(domains)" = mine ]; }

stub_config mine 30001 1
check "somebody has a domain with such a UUID and a name of his own" timeout 20 xl create -p -q /run/half.cfg
daemon_stop KILL

# As xl leaves it when it is killed at the worst moment.
stub_config pilotfish-30002 30002 2
timeout 20 xl create -p -q /run/half.cfg
half=$(domid pilotfish-30002)
for path in "/local/domain/$half" "/libxl/$half" "$(xenstore-read "/local/domain/$half/vm")"; do
    xenstore-rm "$path"
done
equal "a domain has no name" 1 "$(unnamed)"

# And in fact.
killed=0
for n in 3 4 5 6 7 8 9 10; do
    stub_config "pilotfish-$((30000 + n))" $((30000 + n)) "$n"
    xl create -p -q /run/half.cfg >/dev/null 2>&1 &
    job=$!
    sleep "$(printf '0.%03d' $((n * 25)))"
    kill -9 $job 2>/dev/null && killed=$((killed + 1))
    wait $job 2>/dev/null
done
xl list
fact xl_killed "$killed"
fact left_with_a_name "$(domains | grep -c '^pilotfish-')"
fact left_without_one "$(unnamed)"
log_mark
daemon_start
check "the daemon removes what is a stub's" wait_for 60 pf_no_half
check_daemon_said "and says so" 'found a stub that nobody knows'
equal "none is left without a name" 0 "$(unnamed)"
check "somebody else's domain stays" test -n "$(domid mine)"
xl destroy mine
rm -f /run/half.cfg
nothing_left
finish
