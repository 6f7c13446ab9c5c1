# A guest that grants its memory: its stub waits for it by name, reaches the memory by grants and never maps
# a page of it; over reloads of the driver, reboots, and a destruction during I/O. Under a FLASK policy each of these
# guests has a stub that waits for it alone, without a target and without the right to map.
. /pf/lib.sh
. /scenarios/checks.sh

# granted_stats GUEST: counters of its stub, into the file /run/stats.
granted_stats() {
    local dir word
    dir=/local/domain/$(domid "$(stub_of "$1")")/data/pilotfish
    word=stats$(now_ms)
    xenstore-write "$dir/ask" "$word"
    pf_answered() { xenstore-read "$dir/stats" 2>/dev/null | grep -q "asked=$word "; }
    wait_for 5 pf_answered
    xenstore-read "$dir/stats" | tr ' ' '\n' >/run/stats
    cat /run/stats
}

# stat KEY: one of them.
stat() { sed -n "s/^$1=//p" /run/stats | head -n 1; }

# a_stub_waits NAME: whether there is one under the name, and it is paused.
a_stub_waits() { xl list "$1" 2>/dev/null | awk 'NR == 2 { print $5 }' | grep -q p; }

# with_stubs ENTRY...: a daemon for which these stubs wait.
with_stubs() {
    printf 'grant-stubs = [ %s ]\ngrant-stub-memory = "32MiB"\n' "$(IFS=, && echo "$*")" >/run/grants.toml
    daemon_stop
    /usr/sbin/pilotfishd --config /run/grants.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
    echo $! >/run/pilotfishd.test.pid
}

# refused GUEST STUB PATTERN: the guest does not start, the daemon says why, and the stub is another one then.
refused() {
    log_mark
    create_fails "$1" rounds "$(granted_disk "$2" xvda "$image")"
    check_daemon_said "the daemon says why" "$3"
    check "another stub waits" wait_for 20 a_stub_waits "${2%%,*}"
}

begin
one=granted two=granted three=granted
if [ -e /pf/xenpolicy ]; then
    two=granted-2 three=granted-3
    with_stubs '{ name = "granted", guest = "grants" }' '{ name = "granted-2", guest = "grants-heavy" }' \
        '{ name = "granted-3", guest = "grants-plain" }'
else
    with_stubs '"granted"'
fi
for name in $one $two $three; do check "a stub waits as $name" wait_for 20 a_stub_waits $name; done
image=$(raw_disk granted 48)
memory_disk=$(ram_disk granted 8)
export kernel=/guest/Image-grants

# --- verified I/O, reloads, a reboot ------------------------------------------------------
vcpus=2 extra="pf.cycles=4" check "xl create" start_guest grants grants \
    "$(granted_disk $one xvda "$image")" "$(granted_disk $one xvdb "$memory_disk")"
first=$(domid "$(stub_of grants)")
check "the stub has the guest's name" test -n "$first"
check "another stub waits" wait_for 20 a_stub_waits $one
if [ -e /pf/xenpolicy ]; then
    equal "the stub has the label that belongs to the guest" "$(label grants stub)" "$(label_of "$(stub_of grants)")"
    equal "the one that waits has the one before that" "$(label grants stub)_building" "$(label_of $one)"
    check "the policy is loaded again under it" xl loadpolicy /pf/xenpolicy
fi
check "the guest verifies its rounds on both disks" wait_guest_line grants 'PF \(rounds=\|error=\)' 90
granted_stats grants
check "Xen copied ($(stat grant_copies) copies in $(stat grant_calls) calls)" test "$(stat grant_copies)" -gt 100
check "the rings are mapped ($(stat ring_pages) pages)" test "$(stat ring_pages)" -gt 0
equal "no foreign page was mapped, or tried" "0 0" "$(stat map_misses) $(stat map_pages)"
check "the driver goes and returns" wait_guest_line grants 'PF \(binds=4\|error=\)' 90
check "also during I/O" wait_guest_line grants 'PF \(busy_binds=4\|error=\)' 90
check "the second boot verifies" wait_guest_line grants 'PF \(second_boot=1\|error=\)' 120
second=$(domid "$(stub_of grants)")
check "the reboot brought a new stub" test -n "$second" -a "$second" != "$first"
check "another stub waits again" wait_for 20 a_stub_waits $one
check "the guest powers off" wait_gone grants 60
equal "the guest saw no error" "" "$(guest_value grants error)"
check "no grant of the guest was left in use" eval '! grep -q "still in use" "$(guest_log grants)"'
check "the image holds what was written" image_holds_round "$image" grants 101

# --- destroyed during I/O -----------------------------------------------------------------
check "xl create" start_guest grants-heavy heavy "$(granted_disk $two xvda "$image")"
check "the guest writes" more_rounds grants-heavy 2 60
from=$(now_ms)
check "xl destroy" timeout 40 xl destroy grants-heavy
fact destroy_ms $(($(now_ms) - from))
equal "the guest saw no error before" "" "$(guest_value grants-heavy error)"
check "another stub waits" wait_for 20 a_stub_waits $two

# --- what does not fit together -------------------------------------------------------------
# A kernel that does not grant gives the stub addresses that are no grants.
log_mark
console_mark=$(wc -l <"$(guest_log $three)")
kernel=/guest/Image check "a guest starts whose kernel does not grant" \
    start_guest grants-plain rounds "$(granted_disk $three xvda "$image")"
pf_no_grant() { tail -n +$((console_mark + 1)) "$(guest_log $three)" | grep -q 'guest memory at .* cannot be reached'; }
check "its stub says that it reaches nothing" wait_for 60 pf_no_grant
check "and the daemon what its kernel lacks" wait_for 30 daemon_said 'its driver named memory that it does not grant'
granted_stats grants-plain
equal "it maps nothing, and copies nothing" "0 0 0" "$(stat ring_pages) $(stat map_pages) $(stat grant_copies)"
xl destroy grants-plain
check "another stub waits" wait_for 20 a_stub_waits $three
refused grants-plain "$three,grant_usage=0" 'grant_usage=0: this stub reaches'
names="$one $two $three"
if [ -e /pf/xenpolicy ]; then
    refused grants-plain $two "has the label $(label grants-heavy stub)_building, and .* \"grants-plain\""
    refused one $two 'does not allow hvm dm of .*pf_stub_one_t_building .* more; .*--policy one --grants'
    log_mark
    with_stubs '{ name = "granted-lame", guest = "lame" }'
    check_daemon_said "no stub waits for a guest whose policy lacks rights" \
        'grant-stubs: granted-lame: .* does not allow hvm dm of .*pf_stub_lame_t_building .* more; .*--policy lame --grants'
    equal "none waits" "" "$(domid granted-lame)"
fi

daemon_stop
for name in $(echo "$names" | tr ' ' '\n' | sort -u); do xl destroy "$name"; done
daemon_start
nothing_left
if [ "$pf_failures" != 0 ]; then
    echo "--- the stubs' console"
    tail -n 60 "$(guest_log granted)"
    echo "--- the guest's"
    tail -n 60 "$(guest_log grants)"
fi
finish
