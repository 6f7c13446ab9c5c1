# Functions for scenarios in dom0 (bash). Source it first: . /pf/lib.sh
#
# A scenario prints what it likes; `check` and `fail` count, and its last line is
# `finish`. Disks are raw files in /disks, a file system in memory.
# shellcheck shell=bash disable=SC2034

pf_failures=${pf_failures:-0}
pf_consoles=/var/log/xen/console

# fact KEY VALUE: a measured value, for the report.
fact() { echo "@@PF fact $1=$2"; }

# pass WHAT / fail WHAT: a check with a known answer.
pass() { echo "@@PF pass $*"; }
fail() {
    echo "@@PF fail $*"
    pf_failures=$((pf_failures + 1))
}

# check WHAT COMMAND...: passes when the command succeeds.
check() {
    local what=$1
    shift
    if "$@"; then pass "$what"; else fail "$what"; fi
}

# equal WHAT EXPECTED ACTUAL: passes when both are the same.
equal() {
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: expected '$2', found '$3'"; fi
}

# finish: ends the scenario; its status says whether every check held.
finish() { exit "$((pf_failures > 0))"; }

# die WHAT: a failed check after which going on makes no sense.
die() {
    fail "$@"
    finish
}

# now_ms: milliseconds since dom0 booted.
now_ms() {
    local up
    read -r up _ </proc/uptime
    echo $((10#${up/./} * 10))
}

# wait_for SECONDS COMMAND...: polls until the command succeeds.
wait_for() {
    local until=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$until" ] || return 1
        sleep 0.1
    done
}

# --- disks -----------------------------------------------------------------------

# raw_disk NAME MIB: makes /disks/NAME.img, a sparse raw image; prints its path.
raw_disk() {
    dd if=/dev/zero of="/disks/$1.img" bs=1M count=0 seek="$2" 2>/dev/null
    echo "/disks/$1.img"
}

# ram_disk NAME MIB: makes /disks/NAME.pilotfish, a disk in the stub's memory; prints its path.
ram_disk() {
    printf 'storage = "ram"\nsize = "%dMiB"\n' "$2" >"/disks/$1.pilotfish"
    echo "/disks/$1.pilotfish"
}

# granted_disk STUB VDEV TARGET: a disk line for a guest that grants its memory to that stub.
granted_disk() {
    echo "vdev=$2,format=raw,access=rw,specification=virtio,backendtype=standalone,backend=$1,target=$3"
}

# virtio_disk VDEV TARGET [rw|ro]: a disk line for the stub.
virtio_disk() {
    echo "vdev=$1,format=raw,access=${3:-rw},specification=virtio,backendtype=standalone,target=$2"
}

# pv_disk VDEV TARGET [rw|ro]: a disk line for Xen's own PV disk, without any stub.
pv_disk() { echo "vdev=$1,format=raw,access=${3:-rw},target=$2"; }

# load_modules LIST: loads the modules of /modules/LIST that are not loaded yet, in order.
load_modules() {
    local module
    while read -r module; do
        [ -d "/sys/module/$module" ] || insmod "/modules/$module.ko" || return 1
    done <"/modules/$1"
}

# network_start: dom0 gets a bridge xenbr0 with the address 10.0.0.1 for PV network interfaces, unless it has it.
network_start() {
    [ ! -e /sys/class/net/xenbr0 ] || return 0
    load_modules network && ip link set lo up && brctl addbr xenbr0 &&
        ip addr add 10.0.0.1/24 dev xenbr0 && ip link set xenbr0 up
}

# nbd_export NAME IMAGE [LINE...]: dom0's NBD server offers the image by that name from its next start, with these lines
# in its configuration.
nbd_export() {
    [ -e /run/nbd.conf ] || printf '[generic]\nlistenaddr = 10.0.0.1\nport = 10809\n' >/run/nbd.conf
    printf '[%s]\nexportname = %s\n' "$1" "$2" >>/run/nbd.conf
    shift 2
    printf '%s\n' 'flush = true' 'fua = true' 'trim = true' "$@" >>/run/nbd.conf
}

# By its address and port in the kernel's table.
pf_nbd_listens() { grep -q ' 0100000A:2A39 .* 0A ' /proc/net/tcp; }

# nbd_start: starts dom0's NBD server at 10.0.0.1:10809.
nbd_start() { nbd-server -C /run/nbd.conf -p /run/nbd-server.pid && wait_for 5 pf_nbd_listens; }

# nbd_signal SIGNAL: sends it to the server, and to all its processes, of which each connection has one.
nbd_signal() { killall "-$1" nbd-server; }

# tls_keys NAME: makes /run/NAME.psk with a key of a client called NAME, for root alone; the key is in $tls_key then.
tls_keys() {
    tls_key=$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')
    (umask 077 && echo "$1:$tls_key" >"/run/$1.psk")
}

# nbdkit_start PORT ARGUMENT...: another NBD server of dom0, at 10.0.0.1:PORT; its number is in /run/nbdkit-PORT.
nbdkit_start() {
    local port=$1
    shift
    rm -f "/run/nbdkit-$port"
    nbdkit --pidfile "/run/nbdkit-$port" --ipaddr 10.0.0.1 --port "$port" "$@" && wait_for 5 test -s "/run/nbdkit-$port"
}

# nbdkit_signal SIGNAL PORT
nbdkit_signal() { kill "-$1" "$(cat "/run/nbdkit-$2")"; }

# nbd_disk NAME EXPORT [LINE...]: makes /disks/NAME.pilotfish, a disk on an NBD server (server=: which, if not dom0's;
# address=: the stub's), with these lines; prints its path.
nbd_disk() {
    local file="/disks/$1.pilotfish"
    printf '%s\n' 'storage = "nbd"' "server = \"nbd://${server:-10.0.0.1}/$2\"" "address = \"${address:-10.0.0.6/24}\"" >"$file"
    shift 2
    printf '%s\n' "$@" >>"$file"
    echo "$file"
}

# --- guests ----------------------------------------------------------------------

# seclabel NAME: the line of a configuration that gives the guest NAME its FLASK label, where there is a policy.
seclabel() {
    [ ! -e /pf/xenpolicy ] || echo "seclabel = '$(label "$1" guest)'"
}

# label NAME guest|stub: the label of that guest or of its stub.
label() { /usr/sbin/pilotfishd --policy "$1" | sed -n "s/^# The $2's label:  *//p"; }

# A machine whose guests grant their memory (mode B) has /pf/grants. There each guest has a stub that waits for it.

# waiting_stub NAME: the name under which the stub of the guest NAME waits.
waiting_stub() { echo "waiting-$1"; }

# granting_disk NAME DISK: the disk line for the guest NAME, with the stub that waits for it where guests grant.
granting_disk() {
    case $2 in
        *,backend=*) echo "$2" ;;
        *,backendtype=standalone,*) echo "${2/,backendtype=standalone,/,backendtype=standalone,backend=$(waiting_stub "$1"),}" ;;
        *) echo "$2" ;;
    esac
}

pf_waits() { xl list "$1" 2>/dev/null | awk 'NR == 2 { print $5 }' | grep -q p; }

# stub_waits NAME: sees to it that a stub waits for the guest NAME, where guests grant. The daemon that runs is
# followed by one that knows of the guest.
stub_waits() {
    local entry config=/etc/pilotfish/pilotfishd.toml
    [ -e /pf/grants ] || return 0
    entry="{ name = \"$(waiting_stub "$1")\", guest = \"$1\" }"
    if ! grep -q -F "$entry" $config 2>/dev/null; then
        mkdir -p /etc/pilotfish
        [ -e $config ] || printf 'grant-stub-memory = "32MiB"\ngrant-stubs = [\n]\n' >$config
        sed -i "s|^]|    $entry,\n]|" $config
        daemon_stop
        daemon_start
    fi
    wait_for 20 pf_waits "$(waiting_stub "$1")"
}

# no_stub_waits: ends the waiting of all stubs, for the daemon too.
no_stub_waits() {
    local name
    [ -e /etc/pilotfish/pilotfishd.toml ] && [ -e /pf/grants ] || return 0
    daemon_stop
    rm /etc/pilotfish/pilotfishd.toml
    for name in $(xl list | awk '$1 ~ /^waiting-/ { print $1 }'); do xl destroy "$name"; done
    daemon_start
}

# guest_config NAME SCENARIO DISK...: writes /run/NAME.cfg; the guest runs
# /guest/SCENARIO.sh. kernel=, memory=, vcpus=, extra= (kernel arguments), on_reboot= and on_crash=
# may be set before the call: `memory=256 vcpus=2 guest_config ...`. Prints the path.
guest_config() {
    local name=$1 scenario=$2 disks="" disk
    shift 2
    if [ -e /pf/grants ]; then local kernel=${kernel:-/guest/Image-grants}; fi
    for disk; do
        if [ -e /pf/grants ]; then disk=$(granting_disk "$name" "$disk"); fi
        disks="$disks'$disk', "
    done
    cat >"/run/$name.cfg" <<END
name = '$name'
memory = ${memory:-192}
vcpus = ${vcpus:-1}
kernel = '${kernel:-/guest/Image}'
ramdisk = '/guest/initrd'
extra = 'console=hvc0 rdinit=/init loglevel=4 panic=5 pf.run=$scenario ${extra:-}'
disk = [ $disks ]
on_reboot = '${on_reboot:-restart}'
on_crash = '${on_crash:-destroy}'
$(seclabel "$name")
END
    echo "/run/$name.cfg"
}

# start_guest NAME SCENARIO DISK...: as guest_config, then `xl create`; its status.
start_guest() {
    local config
    config=$(guest_config "$@")
    stub_waits "$1" || echo "no stub waits for $1"
    : >"$(guest_log "$1")"
    timeout 60 xl create "$config"
}

# guest_log NAME: the file with all the guest has written to its console, over reboots.
guest_log() { echo "$pf_consoles/guest-$1.log"; }

pf_logged() { grep -q -- "$2" "$(guest_log "$1")" 2>/dev/null; }

# wait_guest_line NAME PATTERN SECONDS: waits until a line of the guest's console
# matches the pattern (grep's).
wait_guest_line() { wait_for "$3" pf_logged "$1" "$2"; }

# guest_value NAME KEY: the last value that the guest printed as `PF KEY=VALUE`.
guest_value() {
    sed -n "s/^.*PF $2=\([^[:cntrl:]]*\).*/\1/p" "$(guest_log "$1")" 2>/dev/null | tail -n 1
}

# domid NAME: the domain's id; nothing when there is none.
domid() { xl domid "$1" 2>/dev/null; }

pf_absent() { ! xl domid "$1" >/dev/null 2>&1; }

# wait_gone NAME SECONDS: waits until no domain has that name.
wait_gone() { wait_for "$2" pf_absent "$1"; }

# --- leftovers -------------------------------------------------------------------

# domains: names of all domains but dom0 and stubs that wait for a guest of the scenario, one per line; a zombie's
# name is (null).
domains() { xl list 2>/dev/null | awk 'NR > 1 && $2 != 0 && $1 !~ /^waiting-/ { print $1 }'; }

# count_stubs: how many stub domains there are.
count_stubs() { domains | grep -c '^pilotfish-'; }

# count_zombies: domains that are dying and cannot be freed.
count_zombies() { xl list 2>/dev/null | awk 'NR > 1 && ($1 == "(null)" || $5 ~ /d/)' | wc -l; }

pf_no_domains() { [ -z "$(domains)" ]; }

# no_domains SECONDS: waits until dom0 is alone.
no_domains() { wait_for "$1" pf_no_domains; }

# count_loops: loop devices in use by PV disks.
count_loops() { losetup -a | wc -l; }

# backends KIND: backend directories of dom0 of that kind (vbd or virtio_disk).
backends() {
    local domain
    for domain in $(xenstore-list "/local/domain/0/backend/$1" 2>/dev/null); do
        xenstore-list "/local/domain/0/backend/$1/$domain" 2>/dev/null | sed "s|^|$domain/|"
    done
}

# --- the daemon ------------------------------------------------------------------

# daemon_start: starts pilotfishd with its log in /var/log/pilotfishd.log.
daemon_start() {
    [ -x /usr/sbin/pilotfishd ] || return 0
    /usr/sbin/pilotfishd >>/var/log/pilotfishd.log 2>&1 </dev/null &
    echo $! >/run/pilotfishd.test.pid
}

# daemon_pid: its process id.
daemon_pid() { cat /run/pilotfishd.test.pid; }

# daemon_stop [SIGNAL]: ends pilotfishd (TERM unless told otherwise) and waits.
daemon_stop() {
    local pid
    pid=$(daemon_pid)
    kill "-${1:-TERM}" "$pid" 2>/dev/null
    wait_for 5 pf_dead "$pid"
}

pf_dead() { ! kill -0 "$1" 2>/dev/null; }
