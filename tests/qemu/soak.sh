# Spans like the benchmark's for hours: one guest, a PV and a RAM disk in turns at several depths, and a
# CPU hog in dom0 every other minute. When nothing of the guest's disks moves for a while, all that may
# tell why is printed, and the soak has failed. pf.minutes= on dom0's command line says how long (120).
. /pf/lib.sh
. /scenarios/checks.sh

silence_s=20
minutes=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^pf\.minutes=\([0-9]*\)$/\1/p')
minutes=${minutes:-120}

# hog on|off: a process that takes all of a CPU of dom0, or its end.
hog_pid=
hog() {
    case $1$hog_pid in
        on)
            while :; do :; done &
            hog_pid=$!
            ;;
        off?*)
            kill "$hog_pid"
            wait "$hog_pid" 2>/dev/null
            hog_pid=
            ;;
    esac
}

begin
image=$(raw_disk soak 64)
memory_disk=$(ram_disk soak 64)
memory=256 extra="pf.minutes=$minutes pf.tools=vdc" check "xl create" start_guest soak soak \
    "$(virtio_disk xvda "$image")" "$(virtio_disk xvdb "$memory_disk")" "$(tools_disk xvdc)"
check "the guest begins" wait_guest_line soak 'PF \(spans\|error\)=' 120

began_ms=$(now_ms)
last=
moved_ms=$began_ms
longest_ms=0
until pf_logged soak 'PF \(done\|error\)=' || pf_absent soak; do
    beat=$(guest_value soak beat)
    now=$(now_ms)
    if [ "$beat" != "$last" ]; then
        last=$beat
        moved_ms=$now
    fi
    [ $((now - moved_ms)) -le $longest_ms ] || longest_ms=$((now - moved_ms))
    if [ $((now - moved_ms)) -gt $((silence_s * 1000)) ]; then
        hog off
        standstill soak beat
        die "the disks stand still after $((($now - began_ms) / 1000)) s"
    fi
    if [ $(((now - began_ms) / 60000 % 2)) = 1 ]; then hog on; else hog off; fi
    sleep 1
done
hog off
fact spans "$(guest_value soak spans)"
fact reads_writes "$(guest_value soak beat)"
fact longest_silence_ms $longest_ms
equal "the guest saw no error" "" "$(guest_value soak error)"
check "it came to its end" pf_logged soak 'PF done='
check "with spans on both disks" test "$(guest_value soak spans)" -gt 2
check "the guest powers off" wait_gone soak 30
nothing_left
finish
