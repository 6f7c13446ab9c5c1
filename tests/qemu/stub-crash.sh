# A stub with a bug crashes while it serves (image crasher of tests/hostile, launched by the daemon
# itself from a configuration that names it). Its console tells where; the daemon ends the guest
# as crashed and removes the stub.
. /pf/lib.sh
. /scenarios/checks.sh

begin
check "the daemon stops" daemon_stop
echo "stub-image = \"$pf_hostile/crasher.img\"" >/run/crasher.toml
/usr/sbin/pilotfishd --config /run/crasher.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
echo $! >/run/pilotfishd.test.pid
log_mark

pf_some_stub() { [ "$(count_stubs)" -gt 0 ]; }
(start_guest crashing mmio "$(virtio_disk xvda "$(ram_disk crashing 8)")" >/run/crash.out 2>&1; echo $? >/run/crash.status) &
check "a stub appears" wait_for 15 pf_some_stub
stub=$(domains | grep '^pilotfish-')
check "it serves" wait_guest_line "$stub" 'PF serving=1' 10
# The image knows no xenstore: say it in its place.
xenstore-write "/local/domain/$(domid "$stub")/data/pilotfish/state" serving
check "the guest starts" wait_guest_line crashing 'PF alive=1' 40
check "the stub answers, then crashes" wait_guest_line "$stub" 'PF answered=20' 40
from=$(now_ms)
check "the guest is ended" wait_gone crashing 40
fact guest_ended_after_ms $(($(now_ms) - from))
equal "xl create had succeeded" 0 "$(cat /run/crash.status)"
equal "the stub did not live on" "" "$(guest_value "$stub" error)"
echo "the stub's last words:"
tail -n 12 "$(guest_log "$stub")"
check "its console has the registers" grep -q -i 'far\|elr\|esr' "$(guest_log "$stub")"
check_daemon_said "the daemon's log says so" 'its stub .domain [0-9]+. .*policy: CrashGuest'
nothing_left
daemon_stop
daemon_start
finish
