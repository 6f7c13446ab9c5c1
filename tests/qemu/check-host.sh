# --check-host on a host on which all is well, and on one on which something is missing: each line
# that is not ok says what to do, and the status tells the worst.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# host_check [ARGUMENT...]: runs the check; its lines are in /run/check.out, its status in check_rc.
host_check() {
    local from
    from=$(now_ms)
    /usr/sbin/pilotfishd --check-host "$@" >/run/check.out 2>&1
    check_rc=$?
    check_ms=$(($(now_ms) - from))
    cat /run/check.out
}
# says WHAT PATTERN: whether a line of the check matches.
says() { check "$1" grep -q -E -- "$2" /run/check.out; }

# For NBD disks.
network_start
host_check
fact check_host_ms "$check_ms"
equal "all is well here" 0 "$check_rc"
equal "line by line" "" "$(grep -v '^ok ' /run/check.out)"
says "Xen's version is told" "Xen: $(xl info xen_major)\.$(xl info xen_minor)$(xl info xen_extra | sed 's/\./\\./g')"
says "Xen was asked for IOREQ servers" 'IOREQ servers: Xen has them'
says "the security module is known" "XSM: dummy, by Xen's command line"
says "xl is of Xen's version" "xl: .*/xl, of Xen $(cat /pf/xen-version)"
says "the daemon is seen" "pilotfishd: runs, process $(daemon_pid)"

# Keys of a configuration.
printf 'libxenlight.so.4.16\0' >/run/other-xl
printf '%s\n' 'stub-image = "/boot/no-such.img"' 'run-dir = "/dev/null/x"' 'xl = "/run/other-xl"' >/run/bad.toml
host_check --config /run/bad.toml
equal "it would serve no guest" 1 "$check_rc"
says "the image is missing" '^FAULT .*stub image: .*/boot/no-such.img.*install'
says "the directory cannot be made" '^FAULT .*run-dir: /dev/null/x: Not a directory.*remedy'
says "xl is another Xen's" '^FAULT .*xl: /run/other-xl is of Xen 4.16, and Xen is.*remedy'
printf '%s\n' 'stub-image = "/guest/Image"' 'stub-memory = "512MiB"' >/run/bad.toml
host_check --config /run/bad.toml
says "a kernel is no stub" "^FAULT .*stub image: .*/guest/Image.*not a stub's"

# Modules of dom0's kernel.
# The kernel itself would load this one.
modprobe=$(cat /proc/sys/kernel/modprobe)
echo /bin/false >/proc/sys/kernel/modprobe
rmmod loop && host_check
echo "$modprobe" >/proc/sys/kernel/modprobe
equal "without loop devices only warnings" 3 "$check_rc"
says "loop devices are missing" '^warning .*loop devices: .*remedy: modprobe loop'
insmod /modules/loop.ko
rmmod xen_blkback && host_check
equal "without blkback only warnings: disks in RAM work" 3 "$check_rc"
says "blkback is missing" '^warning .*xen-blkback: .*remedy: modprobe xen-blkback'

rmmod xen_netback && host_check
says "netback is missing" '^warning .*NBD disks: .*remedy: modprobe xen-netback'
insmod /modules/xen_netback.ko
printf '%s\n' 'stub-bridge = "none0"' >/run/bad.toml
host_check --config /run/bad.toml
says "a bridge is missing" '^warning .*NBD disks: stub-bridge = "none0": dom0 has none of that name; remedy'

# The daemon logs the same, and starts meanwhile.
daemon_stop
log_mark
from=$(now_ms)
daemon_start
wait_for 10 daemon_said 'watches'
fact daemon_ready_ms $(($(now_ms) - from))
check_daemon_said "the daemon's log tells what is missing" 'WARN .*this host: xen-blkback: .*modprobe'
insmod /modules/xen_blkback.ko
host_check
equal "all is well again" 0 "$check_rc"
rm -f /run/bad.toml /run/other-xl
nothing_left
finish
