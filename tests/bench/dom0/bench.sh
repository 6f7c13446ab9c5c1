# The benchmark, dom0's side: one guest with a native PV disk, a disk of its stub over the same
# kind of backing, and one in the stub's memory; then bare round trips to the stub and to one
# that only answers (echo_stub). Between them a guest that does what guests do (buffered.sh). What to measure is in
# /pf/bench.conf.
# shellcheck disable=SC2154
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/common.sh
. /scenarios/buffered.sh
. /pf/bench.conf

# direct_guest: measures the workloads of $workloads.
direct_guest() {
    local native image stub third=ram other
    # Real pages from the start, for both.
    native=$(filled native "$mib")
    image=$(filled pilotfish "$mib")
    if [ -n "$nbd" ]; then at_nbd_server; else other=$(ram_disk ram "$mib"); fi
    linux bench bench "$guest_mib" "$vcpus" "pf.tools=xvdd pf.idle=$idle pf.workloads=$workloads pf.mib=$mib pf.third=$third" \
        "$(virtio_disk xvda "$image")" "$(virtio_disk xvdb "$other")" \
        "$(pv_disk xvdc "$native")" "$(pv_disk xvdd "$tools" ro)" || die "xl create of a guest with all disks"
    stub=$(domid "$(stub_of bench)")
    [ -n "$stub" ] || die "no stub beside the guest"
    fact stub_ready_us "$(xenstore-read "/local/domain/$stub/data/pilotfish/ready_us")"
    losetup -l -n -O NAME,DIO,BACK-FILE 2>/dev/null | while read -r name dio file; do
        case $file in
            "$native") fact backing_native "loop,dio=$dio" ;;
            "$image") fact backing_pilotfish "loop,dio=$dio" ;;
        esac
    done
    # shellcheck disable=SC2046
    check "the guest measures to its end" "$meter" $(watched bench)
    gone bench
}

# at_nbd_server: dom0's NBD server has the images and another; direct_guest's disks are there.
at_nbd_server() {
    nbd_export native "$native"
    nbd_export pilotfish "$image"
    nbd_export other "$(filled other "$mib")"
    network_start && mtu_set || die "dom0's network does not start"
    load_modules network-storage && nbd_start || die "dom0's NBD server does not start"
    nbd-client -name native 10.0.0.1 /dev/nbd0 || die "nbd-client does not connect"
    nbd-client -name pilotfish 10.0.0.1 /dev/nbd1 || die "nbd-client does not connect again"
    third=nbd native=/dev/nbd0 image=/dev/nbd1 other=$(nbd_disk other other)
}

# mtu_set: gives $mtu, if it is not empty, to the bridge, and so to the stub's interface, and to Linux's client.
mtu_set() {
    [ -z "$mtu" ] || { ip link set xenbr0 mtu "$mtu" && ip link set lo mtu "$mtu"; }
}

# two_guests: measures the workloads of $workloads in a guest whose memory its stub maps, and in one that grants it, in
# turns. They have the same kernel.
two_guests() {
    local native image words="pf.tools=xvdd pf.idle=0 pf.workloads=$workloads pf.mib=$mib"
    native=$(filled native "$mib")
    image=$(filled pilotfish "$mib")
    # For the functions of lib.sh: this one grants.
    touch /pf/grants
    linux bench-grants bench "$guest_mib" "$vcpus" "$words pf.grants=granted" \
        "$(virtio_disk xvda "$(filled granted "$mib")")" "$(pv_disk xvdd "$tools" ro)" ||
        die "xl create of a guest that grants its memory"
    rm /pf/grants
    kernel=/guest/Image-grants linux bench bench "$guest_mib" "$vcpus" "$words pf.grants=beside" \
        "$(virtio_disk xvda "$image")" "$(pv_disk xvdc "$native")" "$(pv_disk xvdd "$tools" ro)" ||
        die "xl create of the guest beside it"
    # shellcheck disable=SC2046
    check "both guests measure to their end" "$meter" $(watched bench) $(watched bench-grants)
    gone bench bench-grants
}

begin
fact xen_version "$(xl info | sed -n 's/^xen_version *: //p')"
fact dom0_kernel "$(uname -r)"
if [ -n "$grants" ]; then
    two_guests
elif [ -n "$workloads" ]; then
    direct_guest
fi
[ -z "$buffered" ] || buffered_guest

# --- a stub beside a large guest -------------------------------------------------------

if [ "$turns" -gt 0 ]; then
    memory=$large_mib check "a large guest is made" start_frontend large mode=roundtrip "$(virtio_disk xvda "$(raw_disk large 4)")"
    large=pilotfish-$(domid large)
    fact large_guest_mib "$(xl list large | awk 'NR == 2 { print $3 }')"
    fact stub_beside_large_mib "$(xl list "$large" | awk 'NR == 2 { print $3 }')"
    fact stub_beside_large_ready_us "$(xenstore-read "/local/domain/$(domid "$large")/data/pilotfish/ready_us")"
    xl destroy large
    wait_for 20 pf_no_domains
fi

# --- bare round trips: two guests that are alike, each with its stub ---------------------

# turn STUB GUEST: lets the two run for a turn and tells their lines of it.
turn() {
    local from
    from=$(wc -l <"$(guest_log "$2")")
    xl unpause "$1"
    xl unpause "$2"
    sleep "$turn_s"
    xl pause "$2"
    xl pause "$1"
    # The first line began in the turn before.
    tail -n +$((from + 1)) "$(guest_log "$2")" | sed -n 's/^.*PF roundtrip=\([^[:cntrl:]]*\).*/\1/p' | tail -n +2 >/run/turn
    while read -r words; do
        lines=$((lines + 1))
        fact "rt.$lines.$2" "$words"
    done </run/turn
}

if [ "$turns" -gt 0 ]; then
    lines=0
    check "a guest for the real stub is made" start_frontend real mode=roundtrip "$(virtio_disk xvda "$(raw_disk real 4)")"
    real=pilotfish-$(domid real)
    xl pause real
    xl pause "$real"
    cat >/run/echo.cfg <<END
name = 'echo'
kernel = '/guest/frontend.img'
cmdline = 'mode=roundtrip'
memory = 8
vcpus = 1
END
    : >"$(guest_log echo)"
    check "a guest for the echo stub is made" xl create -p /run/echo.cfg
    check "the echo stub runs" launch_stub echo_stub echo_stub "$(domid echo)"
    check "it serves" wait_guest_line echo_stub 'PF serving=1' 30
    xl pause echo_stub
    for _ in $(seq "$turns"); do
        turn echo_stub echo
        turn "$real" real
    done
    check "round trips were told" test "$lines" -gt 1
fi
finish
