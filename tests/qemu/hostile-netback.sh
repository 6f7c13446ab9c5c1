# The network's back end is not honest: a driver domain with an image of ours (tests/hostile, netback/) does to the stub
# what a netback can do: rings, ids, pages, frames, events, xenbus states, nodes. Behind it is an NBD server of that image.
# The same stub serves a second disk, a PV disk from dom0, to the same guest, which writes and reads both in turn. A
# bystander has a stub of its own.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/steady.sh

begin
evil_domain netback 32 "an interface"
near=$(raw_disk near 8)
# First, while the machine has nothing else to do.
start_steady \
    "$(virtio_disk xvda "$(nbd_disk far far 'network-backend = "evil"' 'backend-timeout-ms = 3000')")" \
    "$(virtio_disk xvdb "$near")"
heap_fact before
start_bystander 100000
watch_stalls
xenstore-write "/local/domain/$(domid evil)/data/go" 1
told_attacks evil 500
heap_fact after
fact flapped "$(guest_value evil flapped)"
tell_stalls
judge_steady
equal "no byte of the other disk is on this one" 0 "$(grep -a -c '^far ' "$near")"
check "the driver domain is destroyed" xl destroy evil
end_bystander
nothing_left
finish
