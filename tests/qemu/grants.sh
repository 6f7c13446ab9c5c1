# A guest that grants its memory: its stub waits for it by name, reaches the memory by grants and never maps
# a page of it; over reloads of the driver, reboots, and a destruction during I/O.
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

# a_stub_waits: whether there is one under the name, and it is paused.
a_stub_waits() { xl list granted 2>/dev/null | awk 'NR == 2 { print $5 }' | grep -q p; }

begin
printf 'grant-stubs = [ "granted" ]\ngrant-stub-memory = "32MiB"\n' >/run/grants.toml
daemon_stop
/usr/sbin/pilotfishd --config /run/grants.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
echo $! >/run/pilotfishd.test.pid
check "a stub waits" wait_for 20 a_stub_waits
image=$(raw_disk granted 48)
memory_disk=$(ram_disk granted 8)
export kernel=/guest/Image-grants

# --- verified I/O, reloads, a reboot ------------------------------------------------------
vcpus=2 extra="pf.cycles=4" check "xl create" start_guest grants grants \
    "$(granted_disk granted xvda "$image")" "$(granted_disk granted xvdb "$memory_disk")"
first=$(domid "$(stub_of grants)")
check "the stub has the guest's name" test -n "$first"
check "another stub waits" wait_for 20 a_stub_waits
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
check "another stub waits again" wait_for 20 a_stub_waits
check "the guest powers off" wait_gone grants 60
equal "the guest saw no error" "" "$(guest_value grants error)"
check "no grant of the guest was left in use" eval '! grep -q "still in use" "$(guest_log grants)"'
check "the image holds what was written" image_holds_round "$image" grants 101

# --- destroyed during I/O -----------------------------------------------------------------
check "xl create" start_guest heavy heavy "$(granted_disk granted xvda "$image")"
check "the guest writes" more_rounds heavy 2 60
from=$(now_ms)
check "xl destroy" timeout 40 xl destroy heavy
fact destroy_ms $(($(now_ms) - from))
equal "the guest saw no error before" "" "$(guest_value heavy error)"
check "another stub waits" wait_for 20 a_stub_waits

# --- what does not fit together -------------------------------------------------------------
log_mark
create_fails plain rounds "$(granted_disk granted,grant_usage=0 xvda "$image")"
check_daemon_said "a disk without grants is refused" 'grant_usage=0: this stub reaches'
check "another stub waits" wait_for 20 a_stub_waits

daemon_stop
xl destroy granted
daemon_start
nothing_left
if [ "$pf_failures" != 0 ]; then
    echo "--- the stubs' console"
    tail -n 60 "$(guest_log granted)"
    echo "--- the guest's"
    tail -n 60 "$(guest_log grants)"
fi
finish
