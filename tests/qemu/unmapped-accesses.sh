# xl's trap_unmapped_accesses (Xen 4.21 and later): what a guest sees where its stub was. With 0
# reads yield ones and writes go nowhere, so the guest lives on without its disks; by default the
# access faults. The stub panics, which ends its server, and the daemon is told to ignore it.
. /pf/lib.sh
. /scenarios/checks.sh

begin
check "the daemon stops" daemon_stop
restart_daemon ignore

# orphan NAME SETTING: a guest with that line in its configuration, whose stub panics.
orphan() {
    local config
    config=$(extra=iomem=relaxed guest_config "$1" unmapped-accesses \
        "$(virtio_disk xvda "$(raw_disk "$1" 8)")" "$(virtio_disk xvdb "$(ram_disk "$1" 8)")")
    echo "$2" >>"$config"
    : >"$(guest_log "$1")"
    check "xl create" timeout 60 xl create "$config"
    check "the guest does I/O" wait_guest_line "$1" 'PF \(ready=1\|error=\)' 40
    equal "its disk's magic number is virtio's" 0x74726976 "$(guest_value "$1" magic)"
    log_mark
    bug_in "$(domid "$(stub_of "$1")")" panic
    check_daemon_said "the stub's end is ignored" 'its stub .domain [0-9]+. .*policy: Ignore'
    echo >"$(xenstore-read "/local/domain/$(domid "$1")/console/tty")"
}

orphan ones 'trap_unmapped_accesses = 0'
check "the guest lives on" wait_guest_line ones 'PF \(rebound=\|error=\)' 40
equal "where its disk was it reads ones" 0xFFFFFFFF "$(guest_value ones no_magic)"
equal "a request is not answered" waiting "$(guest_value ones request)"
equal "the driver finds no device there" "no device" "$(guest_value ones rebound)"
check "the guest powers off" wait_gone ones 40
equal "it saw no error" "" "$(guest_value ones error)"

orphan traps ''
check "by default the access faults" wait_guest_line traps 'PF \(no_magic=\|error=\)' 40
equal "so it reads nothing" "" "$(guest_value traps no_magic)"
check "the guest is destroyed" timeout 40 xl destroy traps
nothing_left
daemon_stop
daemon_start
finish
