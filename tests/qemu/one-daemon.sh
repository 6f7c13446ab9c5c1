# A second pilotfishd by hand, with whatever configuration, says which one runs and ends before it
# touches anything; guests start, run and end as ever.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk first 32)
extra="pf.rounds=1000 pf.tag=first" check "a guest runs" start_guest first rounds "$(virtio_disk xvda "$image")"
check "it does I/O" more_rounds first 2 40
stub=$(domid "$(stub_of first)")
printf '%s\n' 'run-dir = "/run/elsewhere"' 'log = "debug"' >/run/second.toml
xenstore-ls /tool/pilotfish >/run/before
for arguments in "" "--config /run/second.toml"; do
    # shellcheck disable=SC2086
    timeout 10 /usr/sbin/pilotfishd $arguments >/run/second.log 2>&1 </dev/null
    rc=$?
    cat /run/second.log
    equal "the second one ends with an error" 1 "$rc"
    check "and says which one runs" grep -q "runs already (process $(daemon_pid))" /run/second.log
    equal "in one line" 1 "$(wc -l </run/second.log)"
done
check "it made no directory" test ! -e /run/elsewhere
xenstore-ls /tool/pilotfish | diff /run/before - && pass "it wrote nothing" || fail "it wrote to xenstore"
other=$(raw_disk other 32)
extra="pf.rounds=1" check "another guest starts" start_guest other rounds "$(virtio_disk xvda "$other")"
check "and does its round" wait_guest_line other 'PF done=1' 60
check "and ends" wait_gone other 30
equal "the first one has its stub" "$stub" "$(domid "$(stub_of first)")"
check "and goes on" more_rounds first 2 40

# However the one ends, the next can start at once.
daemon_stop KILL
log_mark
daemon_start
check_daemon_said "after a kill the next one takes over" '[Aa]dopt'
rm -f /run/second.toml
end_guest first "$image"
nothing_left
finish
