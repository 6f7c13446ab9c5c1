# The benchmark's curves, dom0's side: guests for whichever of them are asked for in
# /pf/bench.conf, one after the other (many_disks: two that take turns), all in one boot.
# shellcheck disable=SC2154
. /pf/lib.sh
. /scenarios/checks.sh
. /pf/bench.conf
. /scenarios/common.sh

# give_up WHAT: a curve cannot be measured; the others can.
give_up() {
    fail "$1"
    # shellcheck disable=SC2046
    gone $(domains | grep -v '^pilotfish-')
}

# three_kinds NAME VCPUS WORDS: one guest with a disk of each kind.
three_kinds() {
    linux "$1" curves "$guest_mib" "$2" "pf.tools=xvdd pf.mib=$mib pf.fill=vdb $3" \
        "$(virtio_disk xvda "$(filled pilotfish "$mib")")" "$(virtio_disk xvdb "$(ram_disk ram "$mib")")" \
        "$(pv_disk xvdc "$(filled native "$mib")")" "$(pv_disk xvdd $tools ro)" ||
        { give_up "xl create of the guest $1"; return; }
    # shellcheck disable=SC2046
    check "$1 measures to its end" "$meter" $(watched "$1")
    gone "$1"
}

# many_disks: a stub with eleven disks, and beside it one with a single disk.
many_disks() {
    local letter names="" lines=()
    for letter in a b c d e f g h i j k; do
        names="$names,vd$letter"
        lines+=("$(virtio_disk xvd$letter "$(filled $letter "$small_mib")")")
    done
    linux eleven curves "$guest_mib" 1 "pf.tools=xvdl pf.mib=$small_mib pf.disks=$disks pf.devices=${names#,}" \
        "${lines[@]}" "$(pv_disk xvdl $tools ro)" || { give_up "xl create of the guest eleven"; return; }
    linux single curves "$guest_mib" 1 "pf.tools=xvdl pf.mib=$small_mib pf.disks=$disks pf.devices=vda" \
        "$(virtio_disk xvda "$(filled single "$small_mib")")" "$(pv_disk xvdl $tools ro)" ||
        { give_up "xl create of the guest single"; return; }
    # shellcheck disable=SC2046
    check "many disks are measured to the end" "$meter" $(watched eleven) $(watched single)
    gone eleven single
}

# frontend NAME MIB WORDS DISK...: a tiny guest, paused.
frontend() {
    local name=$1 mib=$2 words=$3
    shift 3
    cat >"/run/$name.cfg" <<END
name = '$name'
kernel = '/guest/frontend.img'
cmdline = 'mode=load $words'
memory = $mib
vcpus = 1
disk = [ $(printf "'%s', " "$@") ]
END
    : >"$(guest_log "$name")"
    timeout 60 xl create -p "/run/$name.cfg"
}

# many_guests: as many as the last point says, each with its stub; they run only while measured.
many_guests() {
    local n most=${guests##*,} pairs=() names=() image from stub
    fact free_mib_before "$(free_mib)"
    for n in $(seq "$most"); do
        image=$(filled "guest$n" 4)
        from=$(now_ms)
        frontend "guest$n" 8 "" "$(virtio_disk xvda "$image")" ||
            { give_up "xl create of guest $n"; return; }
        fact "launch_ms.$n" $(($(now_ms) - from))
        stub=$(domid "$(stub_of "guest$n")")
        fact "ready_us.$n" "$(xenstore-read "/local/domain/$stub/data/pilotfish/ready_us")"
        pairs+=("$(domid "guest$n"):$stub")
        names+=("guest$n")
    done
    fact free_mib_with_all "$(free_mib)"
    fact dom0_available_kib "$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)"
    check "many guests are measured to the end" "$meter" many-guests "$rounds" "$seconds" "$guests" "${pairs[@]}"
    gone "${names[@]}"
}

# spread: one guest whose I/O goes to more and more of its memory, from a RAM disk and a PV disk.
spread() {
    local ms
    ms=$(awk "BEGIN { print int($seconds * 1000) }")
    frontend map "$map_mib" "rounds=$rounds ms=$ms spread=$map series=ram,pilotfish" \
        "$(virtio_disk xvda "$(ram_disk map 4)")" "$(virtio_disk xvdb "$(filled spread 4)")" ||
        { give_up "xl create of the guest map"; return; }
    # shellcheck disable=SC2046
    check "map is measured to its end" "$meter" unpause $(watched map)
    gone map
}

begin
fact xen_version "$(xl info | sed -n 's/^xen_version *: //p')"
fact dom0_kernel "$(uname -r)"
[ -z "$depth$block" ] || three_kinds one 1 "${depth:+pf.depth=$depth} ${block:+pf.block=$block}"
[ -z "$vcpus" ] || three_kinds smp "${vcpus##*,}" "pf.vcpus=$vcpus"
[ -z "$disks" ] || many_disks
[ -z "$guests" ] || many_guests
[ -z "$map" ] || spread
finish
