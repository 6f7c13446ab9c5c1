# What the scenarios share in which something beside a stub is hostile: its storage, its server, its network (bash). A guest
# called `steady` writes and reads two disks of one stub in turn, and a bystander has a stub of its own. Source it after
# /scenarios/checks.sh.
# shellcheck shell=bash disable=SC2034,SC2154

# evil_domain IMAGE MIB PATTERN: starts the driver domain `evil` with that image of tests/hostile, which waits for what
# the pattern says.
evil_domain() {
    cat >/run/evil.cfg <<END_OF_CONFIG
name = 'evil'
type = 'pvh'
kernel = '$pf_hostile/$1.img'
memory = $2
vcpus = 1
driver_domain = 1
on_poweroff = 'preserve'
on_crash = 'preserve'
END_OF_CONFIG
    : >"$(guest_log evil)"
    check "the driver domain starts" timeout 60 xl create /run/evil.cfg
    check "it waits for $3" wait_guest_line evil 'PF waiting=1' 20
}

# start_steady DISK DISK: starts the guest. Its stub is $stub then, by name, and $stub_domid.
start_steady() {
    log_mark
    start_frontend steady 'mode=patient' "$@" || die "xl create"
    stub=$(stub_of steady)
    stub_domid=$(domid "$stub")
}

# heap_fact WHEN: how much of its heap the stub has used at most, in KiB.
heap_fact() { fact "stub_heap_$1_kib" "$(xenstore-read "/local/domain/$stub_domid/data/pilotfish/heap_peak_kib" 2>/dev/null)"; }

# good_of: turns in which the first disk served.
good_of() { guest_value steady turns | sed 's/.* good=\([0-9]*\) .*/\1/'; }

# judge_steady: what came of guest and stub. $turns is what the guest told last.
judge_steady() {
    turns=$(guest_value steady turns)
    fact turns "${turns%% *}"
    echo "the guest: $turns"
    equal "the guest saw no request unanswered, and its other disk served" "" "$(guest_value steady error)"
    equal "the stub is the same" "$stub_domid" "$(domid "$stub")"
    check "it did not panic" sh -c "! grep -q PANIC '$(guest_log "$stub")'"
    check "its console stays short" test "$(stat -c %s "$(guest_log "$stub")")" -lt 65536
    fact stub_console_bytes "$(stat -c %s "$(guest_log "$stub")")"
    check "the daemon's log stays short" test "$(daemon_lines | wc -l)" -lt 30
    tail -n 40 "$(guest_log "$stub")"
    check "the guest is destroyed" xl destroy steady
}
