# The storage backend is not honest: a driver domain with an image of ours (tests/hostile, blkback/) does to the
# stub what a back end can do: ring, ids, pages, events, xenbus states, nodes. The same stub serves a second disk,
# from dom0, to the same guest, which writes and reads both in turn. A bystander has a stub of its own.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/steady.sh

begin
start_bystander 100000
watch_stalls
evil_domain blkback 16 "a disk"
cat >/disks/far.pilotfish <<END_OF_FILE
storage = "pv"
backend = "evil"
target = "/dev/xvda"
backend-timeout-ms = 3000
END_OF_FILE
near=$(raw_disk near 8)
start_steady "$(virtio_disk xvda /disks/far.pilotfish)" "$(virtio_disk xvdb "$near")"
told_attacks evil 400
tell_stalls
check "there are as many as there were" test "$(wc -l </run/attacks)" -ge 30
judge_steady
check "the driver domain is destroyed" xl destroy evil
end_bystander
nothing_left
finish
