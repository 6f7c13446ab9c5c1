# What others write for the daemon to read: names and disk lines of any bytes that a user gives to `xl create`, disk
# files of any content, the nodes that a guest may write, and those of a stub that the daemon itself has started
# (tests/hostile, nodes/). None of it may reach a configuration, a path or the log as it is. A bystander goes on.
#
# attack name-quotes: a guest whose name has quotes, backslashes and a command for a shell
# attack name-lines: a guest whose name has line ends and a terminal's escapes
# attack name-path: a guest whose name is a path upwards
# attack name-long: a guest with a name of 900 bytes
# attack name-of-its-stub: a guest that is called as its stub is to be
# attack target-quotes: an image whose name ends a string of xl's syntax and begins a key
# attack target-lines: an image whose name has line ends and a terminal's escapes
# attack target-bytes: an image whose name is not UTF-8
# attack target-options: a path with more words of a disk line behind it
# attack target-command: an image whose name is a command for a shell
# attack target-relative: a path upwards from nowhere
# attack target-long: a path of 2000 bytes
# attack file-nonsense: a disk file of bytes that mean nothing
# attack file-huge: a disk file of a GiB
# attack file-pipe: a disk file that is a pipe which nobody writes to
# attack file-keys: a disk file whose values hold more words of a disk line, lines and escapes
. /pf/lib.sh
. /scenarios/checks.sh

# domains_now: the numbers of all domains but dom0.
domains_now() { xenstore-list /local/domain | grep -v '^0$' | sort -n | tr '\n' ' '; }
pf_alone() { [ "$(domains_now)" = "$before" ]; }

# clean_log: whether each line since log_mark is one of the daemon's, without a control character.
clean_log() {
    ! daemon_lines | LC_ALL=C grep -q '[[:cntrl:]]' &&
        ! daemon_lines | grep -q -v '^[^ ]*Z [A-Z]* *pilotfishd: '
}

pf_no_files() { [ -z "$(ls -A /run/pilotfish 2>/dev/null)" ] && [ ! -e /run/owned ] && [ ! -e /evil ]; }

# judged: whatever was tried: the log is clean and short, the daemon is the same, nobody ran a command.
judged() {
    check "$1: the log has lines of the daemon's only, without control characters" clean_log
    check "$1: it stays short ($(daemon_lines | wc -l) lines)" test "$(daemon_lines | wc -l)" -lt 40
    check "$1: the daemon lives" kill -0 "$(daemon_pid)"
    check "$1: nothing was run, and no file is left" pf_no_files
}

# tried ATTACK NAME DISK PATTERN: xl makes a guest with that name and disk, as xl's syntax writes them. It is refused,
# and the log has a line like PATTERN; without a PATTERN it may start as well, and is destroyed.
tried() {
    local guest
    attack "$1"
    stretch "$1"
    printf '%s\n' "name = $2" "kernel = '/guest/frontend.img'" "cmdline = 'mode=send'" 'memory = 8' 'vcpus = 1' \
        "on_crash = 'destroy'" "disk = [ $3 ]" >/run/nasty.cfg
    log_mark
    timeout 40 xl create /run/nasty.cfg >/run/create.out 2>&1 && taken=yes || taken=no
    echo "$1: taken: $taken"
    LC_ALL=C tr -c '\n -~' '?' </run/create.out
    daemon_lines | LC_ALL=C tr -c '\n -~' '?'
    if [ -n "${4:-}" ]; then
        equal "$1 is refused" no $taken
        check_daemon_said "$1: the log says why" "$4"
    fi
    guest=$(domains_now)
    if [ "$guest" != "$before" ]; then
        # The guest is older than its stub.
        guest=$(for id in $guest; do case " $before" in *" $id "*) ;; *) echo "$id" ;; esac; done | head -n 1)
        xl destroy "$guest"
    fi
    check "$1: nothing is left of it" wait_for 20 pf_alone
    judged "$1"
    attacked "" "$(stretched)"
}

begin
start_bystander 100000
watch_stalls
before=$(domains_now)
plain="'$(virtio_disk xvda "$(raw_disk plain 4)")'"
line=vdev=xvda,format=raw,access=rw,specification=virtio,backendtype=standalone,target=

tried name-quotes '"a\"b'"'"'c\\$(touch /run/owned)"' "$plain"
tried name-lines '"a\nkernel = /evil\r\033[2J\a"' "$plain"
tried name-path "'../../../../run/owned'" "$plain"
tried name-long "'$(head -c 900 /dev/zero | tr '\0' n)'" "$plain"
# Numbers are given in turn: a guest that is made and destroyed tells which is the next.
start_frontend probe mode=send
next=$(($(domid probe) + 1))
xl destroy probe
tried name-of-its-stub "'pilotfish-$next'" "$plain" 'xl create'

for name in 'a"b.img' "$(printf 'a\nb\033[2J.img')" "$(printf 'a\377\376.img')" 'a$(reboot).img'; do
    dd if=/dev/zero of="/disks/$name" bs=1M count=1 2>/dev/null
done
tried target-quotes "'x'" "'${line}/disks/a\"b.img'" 'target.*must be an absolute path'
tried target-lines "'x'" "\"${line}/disks/a\\nb\\033[2J.img\""
tried target-bytes "'x'" "\"${line}/disks/a\\377\\376.img\""
tried target-options "'x'" "'${line}/disks/plain.img,script=/evil,backend=bystander'"
tried target-command "'x'" "'${line}/disks/a\$(reboot).img'"
tried target-relative "'x'" "'${line}../../../disks/plain.img'" 'target.*must be an absolute path'
tried target-long "'x'" "'$line/$(head -c 2000 /dev/zero | tr '\0' p)'"

head -c 5000 /dev/urandom >/disks/nonsense.pilotfish
tried file-nonsense "'x'" "'$line/disks/nonsense.pilotfish'" 'nonsense.pilotfish'
dd if=/dev/zero of=/disks/huge.pilotfish bs=1M count=0 seek=1024 2>/dev/null
tried file-huge "'x'" "'$line/disks/huge.pilotfish'" 'too long for a disk file'
mkfifo /disks/pipe.pilotfish
tried file-pipe "'x'" "'$line/disks/pipe.pilotfish'"
n=0
for text in 'backend = "a,script=/evil"' 'serial = "a b,store=ram:4096"' 'serial = "\u001b[2J"' \
    'backend-timeout-ms = 99999999999999999999' '"\n<0>kernel: forged" = 1'; do
    n=$((n + 1))
    printf 'storage = "pv"\ntarget = "/disks/plain.img"\n%s\n' "$text" >/disks/keys$n.pilotfish
done
attack file-keys
stretch file-keys
log_mark
for n in 1 2 3 4 5; do
    create_fails x rounds "$line/disks/keys$n.pilotfish"
    check_daemon_said "the log says why" "keys$n.pilotfish"
done
check "file-keys: nothing is left" wait_for 20 pf_alone
judged file-keys
attacked "" "$(stretched)"

# A guest with an honest stub writes to its own nodes, and tries those of others.
cat >/run/writer.cfg <<END_OF_CONFIG
name = 'writer'
kernel = '$pf_hostile/nodes.img'
cmdline = 'other=$(domid bystander)'
memory = 8
vcpus = 1
disk = [ $plain ]
END_OF_CONFIG
: >"$(guest_log writer)"
log_mark
check "a guest that writes nodes starts" timeout 60 xl create /run/writer.cfg
writer=$(domid writer)
stub=$(domid "$(stub_of writer)")
told_attacks writer 60
equal "its disk is served" 2 "$(xenstore-read "/local/domain/0/backend/virtio_disk/$writer/51712/state")"
equal "its stub is the same" "$stub" "$(domid "$(stub_of writer)")"
judged "the guest's nodes"
check "the guest that wrote is destroyed" xl destroy writer
check "nothing is left of it" wait_for 25 pf_alone

# The daemon starts a stub that writes.
daemon_stop
printf 'stub-image = "%s"\n' "$pf_hostile/nodes.img" >/run/nodes.toml
log_mark
/usr/sbin/pilotfishd --config /run/nodes.toml >>/var/log/pilotfishd.log 2>&1 </dev/null &
echo $! >/run/pilotfishd.test.pid
check "a guest with a stub that writes starts" start_frontend ward mode=send "$(virtio_disk xvda /disks/plain.img)"
ward=$(stub_of ward)
told_attacks "$ward" 60
check "the guest is ended for its stub" wait_gone ward 30
check_daemon_said "the log says how the stub failed" 'failed: no memory'
daemon_lines | LC_ALL=C tr -c '\n -~' '?'
judged "the stub's nodes"
check "nothing is left of either" wait_for 25 pf_alone
daemon_stop
daemon_start

tell_stalls
end_bystander
nothing_left
finish
