# What the scenarios share beyond dom0's lib.sh (bash). Source it after /pf/lib.sh.
# shellcheck shell=bash disable=SC2034,SC2154

# begin: the state every scenario starts from: the daemon runs, dom0 is alone.
begin() {
    if [ ! -e /run/pilotfishd.test.pid ] || pf_dead "$(daemon_pid)"; then
        echo "starting the daemon, which did not run"
        daemon_start
    fi
    no_stub_waits
    no_domains 20 || die "dom0 is not alone at the start: $(domains | tr '\n' ' ')"
    free_before=$(free_mib)
}

# interface domctl|sysctl: the interface version of this Xen, which a hostile image has to name.
interface() {
    case $(cat /pf/xen-version).$1 in
        4.17.domctl | 4.17.sysctl | 4.20.sysctl) echo 21 ;;
        4.20.domctl) echo 23 ;;
        *.sysctl) echo 22 ;;
        *) echo 24 ;;
    esac
}

# label_of NAME: the FLASK label that a domain has.
label_of() { xl list -Z "$1" | awk 'NR == 2 { print $NF }'; }

# free_mib: memory that Xen has to give, in MiB.
free_mib() { xl info | awk '$1 == "free_memory" { print $3 }'; }

# stub_of NAME: the name of the stub of the guest NAME.
stub_of() { echo "pilotfish-$(domid "$1")"; }

# rounds_of NAME: how many rounds of verified I/O the guest has done.
rounds_of() {
    local n
    n=$(guest_value "$1" round)
    echo "${n:-0}"
}

pf_rounds_at_least() { [ "$(rounds_of "$1")" -ge "$2" ]; }

# more_rounds NAME COUNT SECONDS: waits until the guest has done COUNT rounds more than now.
more_rounds() {
    local from
    from=$(rounds_of "$1")
    wait_for "$3" pf_rounds_at_least "$1" $((from + $2))
}

# stands_still NAME SECONDS [FOR-WHAT]: the guest gets nothing done for so long.
stands_still() {
    local at
    # What was told before is still on its way through the console.
    sleep 1
    at=$(rounds_of "$1")
    sleep "$2"
    equal "the guest waits${3:+ $3}" "$at" "$(rounds_of "$1")"
}

# pattern TAG ROUND [BYTES]: what guests write in a round (guest/disk.sh has the same).
pattern() { yes "$1 round $2" | head -c "${3:-1048576}"; }

# image_holds_round FILE TAG ROUND: whether the image holds what that round wrote, at its place.
image_holds_round() {
    dd if="$1" of=/run/place bs=1M skip=$(($3 % 16)) count=1 2>/dev/null
    pattern "$2" "$3" | cmp -s - /run/place
}

# image_holds FILE TAG ROUNDS [COUNT]: whether it holds what that many rounds wrote (the last
# COUNT of them, 16 by default: a place is used again after that).
image_holds() {
    local n from=1 count=${4:-16}
    [ "$3" -le "$count" ] || from=$(($3 - count + 1))
    for n in $(seq "$from" "$3"); do
        if ! image_holds_round "$1" "$2" "$n"; then
            echo "$1 does not hold round $n of $2"
            return 1
        fi
    done
}

# workers_hold NAME FILE TAG WORKERS: whether the image holds the last rounds that each worker of
# the guest told of (guest/disk.sh). A worker has four places, and may be in a fourth round.
workers_hold() {
    local worker last n
    for worker in $(seq 0 $(($4 - 1))); do
        last=$(guest_value "$1" "w$worker")
        for n in $(seq $((last > 2 ? last - 2 : 1)) "${last:-0}"); do
            dd if="$2" of=/run/place bs=256k skip=$((worker * 4 + n % 4)) count=1 2>/dev/null
            if ! pattern "$3-$worker" "$n" 262144 | cmp -s - /run/place; then
                echo "$2 does not hold round $n of worker $worker"
                return 1
            fi
        done
        echo "worker $worker: $last rounds"
        [ "${last:-0}" -gt 0 ] || return 1
    done
}

# log_mark: where the daemon's log stands now, for daemon_said.
log_mark() { log_from=$(wc -l </var/log/pilotfishd.log); }

# daemon_lines: what the daemon logged since log_mark.
daemon_lines() { tail -n +$((log_from + 1)) /var/log/pilotfishd.log; }

# daemon_said PATTERN: whether a line since log_mark matches (grep -E).
daemon_said() { daemon_lines | grep -q -E -- "$1"; }

# check_daemon_said WHAT PATTERN: as a check that shows what was seen.
check_daemon_said() {
    if wait_for 5 daemon_said "$2"; then
        pass "$1"
    else
        fail "$1: no line matches '$2' in: $(daemon_lines | tr '\n' '|')"
    fi
}

# granting: domains other than dom0 that have entries in their grant table, by Xen's own list.
granting() {
    xl dmesg -c >/dev/null
    xl debug-keys g
    sleep 0.3
    xl dmesg | grep -o 'grant-table for remote d[0-9]*' | grep -v 'd0$' | tr '\n' ' '
}

pf_no_backends() { [ -z "$(backends virtio_disk)$(backends vbd)" ]; }
pf_no_loops() { [ "$(count_loops)" = 0 ]; }
# Records are named by the guest's domid; other names are not about one guest.
records() { xenstore-list /tool/pilotfish 2>/dev/null | grep '^[0-9]*$'; }
pf_no_records() { [ -z "$(records)" ]; }
pf_memory_back() { [ "$(free_mib)" -ge $((free_before - 1)) ]; }

# nothing_left: after the last guest has gone, nothing of it or its stub is left.
nothing_left() {
    no_stub_waits
    wait_for 25 pf_no_domains
    equal "no guest, stub or zombie is left" "" "$(domains | tr '\n' ' ')"
    wait_for 10 pf_no_backends
    equal "no backend node is left" "" "$(backends virtio_disk; backends vbd)"
    wait_for 10 pf_no_records
    equal "the daemon's records are gone" "" "$(records)"
    wait_for 10 pf_no_loops
    equal "no loop device holds an image" "" "$(losetup -a)"
    local left
    left=$(xenstore-list /local/domain | tr '\n' ' ' | sed 's/ $//')
    equal "no domain but dom0 has a directory in xenstore" "0" "$left"
    [ "$left" = 0 ] || xenstore-ls -f -p /local/domain | grep -v '^/local/domain/0' | head -n 20
    equal "no grant table but dom0's is in use" "" "$(granting)"
    wait_for 10 pf_memory_back
    check "Xen has its memory back (before: $free_before MiB, now: $(free_mib) MiB)" pf_memory_back
}

# create_fails NAME SCENARIO DISK...: xl create has to fail. Leaves its output in /run/create.out
# and its duration in create_ms.
create_fails() {
    local from
    from=$(now_ms)
    if start_guest "$@" >/run/create.out 2>&1; then
        fail "xl create fails: it succeeded"
    else
        pass "xl create fails"
    fi
    create_ms=$(($(now_ms) - from))
    echo "xl create took $create_ms ms and said:"
    cat /run/create.out
}

# disk_refused WHAT PATTERN DISK: a tiny guest with that disk line does not start, and the daemon's log has a
# line like PATTERN.
disk_refused() {
    log_mark
    if start_frontend refused 'mode=crate' "$3" >/run/create.out 2>&1; then
        fail "$1 is refused: it was taken"
        xl destroy refused
        return
    fi
    check_daemon_said "$1 is refused" "$2"
}

# no_key_left: no key of TLS is in xenstore, in the daemon's log or in a guest's or stub's console log.
no_key_left() {
    equal "no key is left in xenstore" "" "$(xenstore-ls -f / | grep -e "$tls_key" -e pilotfish-tls | cut -d= -f1)"
    equal "and none is in a log" "" "$(grep -l -r -e "$tls_key" /var/log)"
}

# --- hostile stubs -----------------------------------------------------------------

pf_hostile=/usr/lib/pilotfish/hostile

# launch_stub NAME IMAGE GUEST-DOMID [ARGUMENT...]: what the daemon does, by hand, with an image
# of tests/hostile: made paused, given its target (unless targeted=no or it has a label=, made with first_label= if it has that too), let run.
# disks= may be a disk line.
launch_stub() {
    local name=$1 image=$2 guest=$3
    shift 3
    cat >"/run/$name.cfg" <<END_OF_CONFIG
name = '$name'
type = 'pvh'
kernel = '$pf_hostile/$image.img'
cmdline = 'target=$guest $*'
memory = 16
vcpus = 1
on_poweroff = 'preserve'
on_crash = 'preserve'
${disks:+disk = [ '$disks' ]}
${label:+seclabel = '$label'}
${first_label:+init_seclabel = '$first_label'}
END_OF_CONFIG
    : >"$(guest_log "$name")"
    timeout 60 xl create -p "/run/$name.cfg" || return 1
    if [ "${targeted:-yes}" = yes ] && [ -z "${label:-}" ]; then
        "$pf_hostile/set-target" "$(domid "$name")" "$guest" || return 1
    fi
    xl unpause "$name"
}

# lines_of NAME: how many lines a guest's console has.
lines_of() { cat "$(guest_log "$1")" 2>/dev/null | wc -l; }

# stalls PHASE FROM [TO]: how late dom0 woke at worst in that phase, and the longest round that the bystander told in
# these lines of its console, in ms, as a line about an attack has them. "-" is not measured.
stalls() {
    local dom0 bystander
    dom0=$(cat "/run/stall.$1" 2>/dev/null)
    bystander=$(sed -n "$2,${3:-\$}p" "$(guest_log bystander)" 2>/dev/null | longest_round)
    echo "stalls=${dom0:--}/${bystander:--}"
}

# stretch NAME: from here on who is held up is held up by that.
stretch() {
    pf_stretch=$1
    pf_stretch_from=$(($(lines_of bystander) + 1))
    echo "$1" >/run/phase
}

# stretched: the stalls since then.
stretched() { stalls "$pf_stretch" "$pf_stretch_from"; }

# told_attacks DOMAIN SECONDS [JUDGE]: each attack that the domain tells of (PF attack=NAME VERDICT MS WHY [TRIES]) is
# a check, as it comes, until it tells how many there were. Leaves them in /run/attacks. The command JUDGE looks at
# those who may not be harmed, and then the domain may go on (go_on). Without it attacks that come within half a
# second share their stalls.
told_attacks() {
    local seen=0 over=no pause=0.5 deadline name verdict ms words tries
    [ -z "${3:-}" ] || pause=0.1
    deadline=$(($(now_ms) + $2 * 1000))
    stretch "$1-0"
    until [ $over = yes ] || [ "$(now_ms)" -gt "$deadline" ]; do
        sleep "$pause"
        # First: what is told before it is over is seen below.
        ! pf_logged "$1" 'PF \(attacks\|error\)=' || over=yes
        sed -n 's/^.*PF attack=\([^[:cntrl:]]*\).*/\1/p' "$(guest_log "$1")" >/run/attacks
        tail -n +$((seen + 1)) /run/attacks >/run/attacks.new
        while read -r name verdict ms words; do
            seen=$((seen + 1))
            tries=${words##*[}
            words=${words%%[*}
            made=$seen
            [ -z "${3:-}" ] || $3 "$name" || verdict=failure
            echo "@@PF attack $name $verdict $ms $(stretched) $words"
            [ "$verdict" = skip ] ||
                check "$name: ${tries%]} ($ms ms) $words" pf_held "$verdict"
            [ -z "${3:-}" ] || { stretch "$1-$seen" && go_on; }
        done </run/attacks.new
        [ ! -s /run/attacks.new ] || [ -n "${3:-}" ] || stretch "$1-$seen"
    done
    equal "each attack was made and told" "$(guest_value "$1" attacks)" $seen
    equal "none could not be made" "" "$(guest_value "$1" error)"
    fact attacks $seen
    fact slowest_attack_ms "$(awk '{ print $3 }' /run/attacks | sort -n | tail -n 1)"
}

pf_held() { [ "$1" = success ] || [ "$1" = refused ]; }

# attack NAME: the checks from here to `attacked` decide what comes of that attack. Its script says what it tries,
# in a comment: "# attack NAME: ...".
attack() {
    pf_attack=$1
    pf_attack_from=$(now_ms)
    pf_failures_before=$pf_failures
}

# attacked [MS [STALLS]]: the attack is over. It took that long, or since `attack`. STALLS is what `stalls` or
# `stretched` print.
attacked() {
    local verdict=${held:-success} why=
    [ $pf_failures = "$pf_failures_before" ] || verdict=failure why="$((pf_failures - pf_failures_before)) checks failed"
    echo "@@PF attack $pf_attack $verdict ${1:-$(($(now_ms) - pf_attack_from))} ${2:-} $why"
}

# no_attack NAME WHY [VERDICT]: this machine lacks what the attack needs.
no_attack() { echo "@@PF attack $1 ${3:-skip} 0 $2"; }

# start_bystander ROUNDS: an innocent guest with an honest stub that does verified I/O.
start_bystander() {
    bystander_image=$(raw_disk bystander 32)
    extra="pf.rounds=$1 pf.tag=witness" check "a bystander with an honest stub starts" \
        start_guest bystander rounds "$(virtio_disk xvda "$bystander_image")"
    check "the bystander does verified I/O" more_rounds bystander 2 60
}

# end_bystander: it did verified I/O to the last, and is destroyed.
end_bystander() {
    check "the bystander goes on" more_rounds bystander 2 60
    equal "the bystander saw no error" "" "$(guest_value bystander error)"
    check "the bystander is destroyed" xl destroy bystander
}

# heartbeat: until killed, sleeps 50 ms at a time and looks how late it wakes. The worst of
# each phase (the word in /run/phase) goes to /run/stall.PHASE, in ms. Forks nothing.
heartbeat() {
    local up now was phase late
    local -A worst
    rm -f /run/heartbeat
    mkfifo /run/heartbeat
    exec 8<>/run/heartbeat
    while :; do
        read -r up _ </proc/uptime
        was=$((10#${up/./} * 10))
        read -r -t 0.05 -u 8
        read -r up _ </proc/uptime
        now=$((10#${up/./} * 10))
        read -r phase </run/phase
        late=$((now - was - 50))
        if [ -n "$phase" ] && [ "$late" -gt "${worst[$phase]:--1}" ]; then
            worst[$phase]=$late
            echo "$late" >"/run/stall.$phase"
        fi
    done
}

# longest_round: the longest round of verified I/O in the lines of a guest's console, in ms.
longest_round() {
    tr -d '\r' | sed -n 's/^.*PF round_ms=\([0-9]*\).*/\1/p' | sort -n | tail -n 1
}

# worst_stall: how late dom0 woke at worst in any phase but quiet and setup, in ms.
worst_stall() {
    local file
    for file in /run/stall.*; do
        case $file in
            *.quiet | *.setup) ;;
            *) cat "$file" ;;
        esac
    done | sort -n | tail -n 1
}

# watch_stalls [PHASE]: starts dom0's heartbeat. Its first 4 s, while nobody attacks and the bystander works, are the
# quiet stretch. Then it is in the phase (attacks, unless told otherwise).
watch_stalls() {
    rm -f /run/stall.*
    quiet_from=$(wc -l <"$(guest_log bystander)")
    echo quiet >/run/phase
    # It may not keep the scenario's output open when that ends early, nor live on.
    heartbeat >/dev/null 2>&1 &
    heartbeat=$!
    trap 'kill $heartbeat 2>/dev/null' EXIT
    sleep 4
    echo "${1:-attacks}" >/run/phase
    quiet_to=$(wc -l <"$(guest_log bystander)")
}

# tell_stalls: ends the heartbeat; tells how late dom0 woke at worst and how long the bystander's longest round was,
# in the quiet stretch and since.
tell_stalls() {
    local log
    log=$(guest_log bystander)
    kill $heartbeat
    fact stall_dom0_quiet_ms "$(cat /run/stall.quiet)"
    fact stall_dom0_ms "$(worst_stall)"
    fact stall_bystander_quiet_ms "$(sed -n "$((quiet_from + 1)),${quiet_to}p" "$log" | longest_round)"
    fact stall_bystander_ms "$(tail -n +$((quiet_to + 1)) "$log" | longest_round)"
}

# --- guests that are not Linux -------------------------------------------------------

# start_frontend NAME ARGUMENTS DISK...: the tiny guest of tests/frontend; its status. With paused=1 it
# is made and does not run.
start_frontend() {
    local name=$1 arguments=$2 disks="" disk
    shift 2
    for disk; do disks="$disks'$disk', "; done
    cat >"/run/$name.cfg" <<END_OF_CONFIG
name = '$name'
kernel = '/guest/frontend.img'
cmdline = '$arguments'
memory = ${memory:-8}
vcpus = ${vcpus:-1}
on_crash = 'destroy'
disk = [ $disks ]
$(seclabel "$name")
END_OF_CONFIG
    : >"$(guest_log "$name")"
    timeout 60 xl create ${paused:+-p} "/run/$name.cfg"
}

# sectors TAG FROM TO: what that guest writes into the sectors FROM to TO - 1
# (tests/frontend/src/pattern.rs has the same).
sectors() {
    awk -v tag="$1" -v from="$2" -v to="$3" 'BEGIN {
        for (n = from; n < to; n++) {
            line = sprintf("%-31s%32d\n", tag, n)
            line = line line line line
            printf "%s%s", line, line
        }
    }'
}

# image_holds_sectors FILE TAG SECTORS: whether all of the image is as that guest left it.
image_holds_sectors() { sectors "$2" 0 "$3" | cmp -s - "$1"; }

# tools_disk VDEV: a disk line for the tools' image, through the guest's stub and read-only.
tools_disk() { virtio_disk "$1" /guest/tools.img ro; }

# --- a stub that restarts -------------------------------------------------------------

# restart_daemon [POLICY]: starts the daemon with that on-stub-crash ("restart" unless told
# otherwise) and the stub with bugs on demand; it does not run.
restart_daemon() {
    printf '%s\n' "stub-image = \"$pf_hostile/fragile.img\"" "stub-net-image = \"$pf_hostile/fragile.img\"" "on-stub-crash = \"${1:-restart}\"" >/run/restart.toml
    /usr/sbin/pilotfishd --config /run/restart.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
    echo $! >/run/pilotfishd.test.pid
}

# bug_in STUB-DOMID BUG: has the stub meet a bug; see image/src/crash.rs for which.
bug_in() { xenstore-write "/local/domain/$1/data/pilotfish/crash" "$2"; }

# restarted_times STUB-DOMID COUNT: whether it says that it was restarted so often.
restarted_times() { [ "$(xenstore-read "/local/domain/$1/data/pilotfish/restarts" 2>/dev/null)" = "$2" ]; }

# end_guest NAME IMAGE: the guest saw no error, is destroyed, and the image holds what it wrote.
end_guest() {
    local rounds
    equal "the guest saw no error" "" "$(guest_value "$1" error)"
    rounds=$(rounds_of "$1")
    check "the guest is destroyed" timeout 40 xl destroy "$1"
    # The round after the last that was reported may have overwritten the oldest place.
    check "the image holds what the guest wrote" image_holds "$2" "$1" "$rounds" 14
}

# --- a guest that stands still --------------------------------------------------------

# xen_says KEY: what Xen prints for a debug key.
xen_says() {
    echo "--- xl debug-keys $1"
    xl dmesg -c >/dev/null
    xl debug-keys "$1"
    sleep 1
    xl dmesg -c
}

# rings_of STUB: the indices of its rings and its disks' interrupts, as the stub sees them.
rings_of() {
    local dir=/local/domain/$1/data/pilotfish word
    word=rings$(now_ms)
    xenstore-write "$dir/ask" "$word"
    pf_answered() { xenstore-read "$dir/stats" 2>/dev/null | grep -q "asked=$word "; }
    if wait_for 5 pf_answered; then xenstore-read "$dir/stats"; else echo "the stub does not answer"; fi
}

# standstill GUEST KEY: what there is to find the cause of a silence; KEY: a value of the guest that tells
# whether it goes on. What the stub says comes before anything wakes it.
standstill() {
    local stub key
    stub=$(domid "$(stub_of "$1")")
    echo "--- $1 stands still"
    for key in q e r a; do xen_says $key; done
    xl vcpu-list
    for _ in 1 2; do
        echo "--- the stub's rings"
        rings_of "$stub"
    done
    echo "--- guest: blocked tasks and timers"
    for key in 8 w q; do xl sysrq "$1" $key; done
    sleep 5
    tail -n 200 "$(guest_log "$1")"
    echo "--- the stub's console"
    tail -n 50 "$pf_consoles/guest-$(stub_of "$1").log"
    echo "--- dom0"
    xenstore-ls "/local/domain/0/backend/vbd/$stub"
    xenstore-ls "/local/domain/$stub/device"
    cat /proc/interrupts
    tail -n 50 /var/log/pilotfishd.log
    echo "--- did looking wake it?"
    sleep 5
    guest_value "$1" "$2"
    for _ in 1 2; do rings_of "$stub"; done
}
