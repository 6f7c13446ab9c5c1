# What the benchmark and the curves share in dom0. Source it after /pf/lib.sh and /scenarios/checks.sh.
# shellcheck shell=bash disable=SC2034,SC2154

meter=$pf_hostile/meter
tools=/guest/tools.img

# filled NAME MIB: an image of real pages; prints its path.
filled() {
    raw_disk "$1" "$2"
    dd if=/dev/zero of="/disks/$1.img" bs=1M count="$2" conv=notrunc 2>/dev/null
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
