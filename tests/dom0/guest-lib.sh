# Functions for a guest's scenario (busybox sh). Source it first: . /guest/lib.sh
# shellcheck shell=sh

# value KEY VALUE: something dom0's side of the scenario waits for or reads.
value() { echo "PF $1=$2"; }

# stop WHAT: gives up; dom0 sees the reason.
stop() {
    value error "$*"
    poweroff -f
}

# wait_device PATH SECONDS: waits for a device node.
wait_device() {
    tries=$(($2 * 10))
    until [ -b "$1" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.1
    done
}

# uptime_ms: milliseconds since the guest booted.
uptime_ms() {
    read -r up _ </proc/uptime
    # A number that begins with 0 is octal to sh.
    echo $((${up%.*} * 1000 + 1${up#*.} * 10 - 1000))
}

# seen_ms NAME: when the kernel found the disk, in milliseconds since its boot, by the
# kernel's own log; empty when it says nothing of it.
seen_ms() {
    dmesg | sed -n "s/^\[ *\([0-9]*\)\.\([0-9][0-9][0-9]\).*\[$1\] .*/\1\2/p" | head -n 1 | sed 's/^0*//'
}
