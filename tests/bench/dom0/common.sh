# What the benchmark and the curves share in dom0. Source it after /pf/lib.sh and /scenarios/checks.sh.
# shellcheck shell=bash disable=SC2034,SC2154

meter=$pf_hostile/meter
tools=/guest/tools.img

# filled NAME MIB: an image of real pages; prints its path.
filled() {
    raw_disk "$1" "$2"
    dd if=/dev/zero of="/disks/$1.img" bs=1M count="$2" conv=notrunc 2>/dev/null
}

# linux NAME SCENARIO MIB VCPUS WORDS DISK...: a guest that measures; the words go to its command
# line. libxl gives a stub 10 s, which eleven disks, or a busy machine, may not leave: so it is tried
# again.
linux() {
    local name=$1 scenario=$2 guest_memory=$3 guest_vcpus=$4 words=$5 tries=3
    shift 5
    until memory=$guest_memory vcpus=$guest_vcpus extra="pf.self=$name pf.rounds=$rounds pf.seconds=$seconds $words" \
        start_guest "$name" "$scenario" "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        echo "the guest $name is tried again"
        wait_gone "$name" 20
    done
    pass "the guest $name is made"
    fact "stub_ms.$name" "$(sed -n "s/.*guest $(domid "$name"): stub .* after \([0-9]*\) ms,.*/\1/p" /var/log/pilotfishd.log | tail -n 1)"
}

# console NAME: its pty.
console() { xenstore-read "/local/domain/$(domid "$1")/console/tty"; }

# watched NAME: the meter's words for a guest.
watched() { echo "$(console "$1") dom0=0 guest=$(domid "$1") stub=$(domid "$(stub_of "$1")")"; }

# gone NAME...: destroys them, waits for it, and removes all images.
gone() {
    local name
    for name; do xl destroy "$name"; done
    wait_for 40 pf_no_domains || echo "still there: $(domains | tr '\n' ' ')"
    rm -f /disks/*
}
