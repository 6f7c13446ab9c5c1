# The daemon is killed under I/O: the guest goes on. Started again, it adopts the stub, so that
# the end of the guest is tidied up as ever.
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk restart 32)
extra="pf.rounds=24 pf.tag=kept" check "xl create" start_guest kept rounds "$(virtio_disk xvda "$image")"
check "the guest does I/O" more_rounds kept 3 40
stub=$(domid "$(stub_of kept)")
check "the daemon is killed" daemon_stop KILL
check "the guest goes on without it" more_rounds kept 4 40
log_mark
daemon_start
check_daemon_said "the new daemon adopts the stub" '[Aa]dopt'
check "the guest goes on" more_rounds kept 4 40
equal "with the same stub" "$stub" "$(domid "$(stub_of kept)")"
check "the guest verifies all rounds" wait_guest_line kept 'PF done=24' 60
check "the guest powers off" wait_gone kept 30
equal "the guest saw no error" "" "$(guest_value kept error)"
check "the image holds what the guest wrote" image_holds "$image" kept 24
nothing_left
finish
