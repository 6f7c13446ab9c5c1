# A stub that is not honest (tests/hostile, stub/) does what a stub can do with its rights: to its guest, to Xen, to
# xenstored, to dom0's programs, to blkback. Its guest may be harmed. dom0 (a heartbeat) and a bystander that
# has an honest stub and does verified I/O may not: after each attack the bystander has to go on.
. /pf/lib.sh
. /scenarios/checks.sh

# A stall of dom0's that is too long, in ms.
stall_limit=10000

# judge NAME: whether dom0 and the bystander are well after that attack.
judge() {
    local held_up
    # The heartbeat tells of a stall when it is over.
    sleep 0.2
    held_up=$(stretched)
    echo "held up: $held_up"
    held_up=${held_up#*=}
    if [ "${held_up%/*}" != - ] && [ "${held_up%/*}" -ge $stall_limit ]; then
        echo "dom0 stalled for ${held_up%/*} ms"
        return 1
    fi
    if ! more_rounds bystander 1 60 || [ "$(boots_of bystander)" != 1 ]; then
        echo "the bystander stands still, or did not stay up: $(boots_of bystander) boots"
        bystanders_end
        tail -n 40 "$(guest_log bystander)" "$(guest_log "$(stub_of bystander)")" /var/log/pilotfishd.log
        xl list
        xl dmesg | tail -n 20
        return 1
    fi
}

# boots_of NAME: how often a guest has booted.
boots_of() { grep -c 'PF boot=' "$(guest_log "$1")"; }

# bystanders_end: what the bystander printed last before it booted again, if it did.
bystanders_end() { grep -B 60 'PF boot=' "$(guest_log bystander)" | tail -n +2; }

# go_on: the stub may make its next attack.
go_on() { xenstore-write "/local/domain/$(domid "$stub")/data/go" "$made"; }

# victim: a guest without disks, but with interrupt lines and a serial port, which reads the registers where a disk's
# would be. It is made paused.
victim() {
    : >"$(guest_log victim)"
    cat >/run/victim.cfg <<END_OF_CONFIG
name = 'victim'
kernel = '/guest/frontend.img'
cmdline = 'mode=roundtrip'
memory = 32
vcpus = 1
vuart = 'sbsa_uart'
nr_spis = 96
on_crash = 'destroy'
on_reboot = 'destroy'
on_poweroff = 'destroy'
$(seclabel victim)
END_OF_CONFIG
    timeout 60 xl create -p /run/victim.cfg
}

# makes_attacks RUN SECONDS [DISK]: a stub makes the attacks of that run on a new guest.
makes_attacks() {
    stub=hostile-$1 made=0
    stretch "$1"
    check "$1: a guest is made" victim
    disks=${3:-} check "$1: the hostile stub runs" launch_stub "$stub" hostile_stub "$(domid victim)" \
        "other=$other" "run=$1" "$versions" ${second:+waits=1}
    wait_guest_line "$stub" 'PF \(serving\|error\)=' 30
    if [ -n "$second" ]; then
        check "$1: the stub gets its second label" "$pf_hostile/set-target" "$(domid "$stub")" "$second"
        go_on
    fi
    [ -z "$(domid victim)" ] || xl unpause victim
    told_attacks "$stub" "$2" judge
    total=$((total + $(wc -l </run/attacks)))
    for name in "$stub" victim; do
        [ -z "$(domid $name)" ] || check "$1: $name is destroyed" timeout 40 xl destroy $name
    done
    check "$1: the bystander goes on" more_rounds bystander 1 60
}

# life NAME STEP [ENDED]: a stub goes that far on the way to serving and ends, as the life of that name does; if its
# domain ends by that, xl shows it so. Then it is destroyed, a stub that keeps its guest's pages after the guest.
life() {
    attack "$1"
    stub=hostile-$1
    stretch "$1"
    check "$1: a stub runs" launch_stub "$stub" hostile_stub "$(domid victim)" run=life "only=$1"
    if [ "$2" = access ]; then
        wait_guest_line "$stub" 'PF bound=' 20
        xl unpause victim
    fi
    check "$1: it gets so far" wait_guest_line "$stub" "PF step=$2" 20
    pf_ended() { xl list "$stub" | awk 'NR == 2 { print $5 }' | grep -q "${1:-.}"; }
    check "$1: it ends so" wait_for 10 pf_ended "${3:-}"
    sleep 1
    check "$1: dom0 and the bystander go on" judge "$1"
    if [ "$2" = mapped ]; then
        check "$1: the guest is destroyed" timeout 60 xl destroy victim
        fact zombies_by_kept_pages "$(count_zombies)"
        check "$1: dom0 and the bystander go on" judge "$1"
    fi
    check "$1: the stub is destroyed" timeout 60 xl destroy "$stub"
    attacked "" "$(stretched)"
    total=$((total + 1))
}

# no_victim: the guest of such stubs goes, and leaves no zombie.
no_victim() {
    [ -z "$(domid victim)" ] || check "the guest is destroyed" timeout 60 xl destroy victim
    pf_no_zombies() { [ "$(count_zombies)" = 0 ]; }
    check "no zombie is left" wait_for 30 pf_no_zombies
}

# lives: stubs that end at each step.
lives() {
    check "a guest is made" victim
    life exit-at-start start s
    life crash-after-store store '[sc]'
    life spin-after-server server
    life exit-after-page page s
    life crash-after-range range '[sc]'
    life spin-after-enabling enabled
    life reset-after-binding bound
    life spin-during-access access
    no_victim
    check "a guest is made" victim
    life crash-during-access access '[sc]'
    no_victim
    check "a guest is made" victim
    life pages-kept mapped
    no_victim
}

# lied_to: the stub that the daemon has made for the guest lies to it.
lied_to() {
    stub=$(stub_of victim) made=0
    told_attacks "$stub" 90 judge
    total=$((total + $(wc -l </run/attacks)))
    check "the guest is ended, whose stub says that it failed" wait_gone victim 60
    daemon_lines
    check "the daemon's log stays short" test "$(daemon_lines | wc -l)" -lt 40
    check "no control character is in it" sh -c "! tail -n +$((log_from + 1)) /var/log/pilotfishd.log | grep -q '[[:cntrl:]]'"
}

# deceived: the daemon makes the hostile stub itself, which then lies to it.
deceived() {
    if [ -e /pf/grants ]; then
        for name in serving-forged states-forged restarts-forged stub-nodes-flood failure-forged; do
            no_attack $name "the guest of such a stub has to grant its memory, and this one cannot"
        done
        total=$((total + 5))
        pass "the daemon makes no hostile stub here"
        return
    fi
    check "the daemon stops" daemon_stop
    echo "stub-image = \"$pf_hostile/hostile_stub.img\"" >/run/hostile.toml
    /usr/sbin/pilotfishd --config /run/hostile.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
    echo $! >/run/pilotfishd.test.pid
    log_mark
    if start_frontend victim 'mode=roundtrip' "$(virtio_disk xvda "$(ram_disk deceived 8)")"; then
        pass "a guest of the hostile stub starts"
        lied_to
    else
        fail "a guest of the hostile stub starts"
        daemon_lines
    fi
    daemon_stop
    daemon_start
}

begin
versions="domctl=$(interface domctl) sysctl=$(interface sysctl)"
label= second=
total=0
start_bystander 100000
other=$(domid bystander)
[ ! -e /pf/xenpolicy ] || label=$(label victim stub)
# In mode B a stub is set up with one label and serves with another.
if [ -n "$label" ] && [ -e /pf/grants ]; then second=$label label=${label}_building; fi
watch_stalls setup
for run in ${runs:-device}; do
    case $run in
        grants) makes_attacks grants 300 "$(pv_disk xvda "$(raw_disk hostile 1)")" ;;
        lives | deceived) $run ;;
        *) makes_attacks "$run" 300 ;;
    esac
done
fact attacks_in_all $total
tell_stalls
check "there are as many as there were" test $total -ge "${least:-25}"
check "Xen answers" xl info
equal "the bystander saw no error" "" "$(guest_value bystander error)"
rounds=$(rounds_of bystander)
check "the bystander is destroyed" xl destroy bystander
check "the bystander's image holds what it wrote" image_holds "$bystander_image" witness "$rounds" 12
nothing_left
finish
