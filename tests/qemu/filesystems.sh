# ext4 and xfs, each from its making over full, trimmed and half empty to its checker's word
# that it is clean. dom0 looks at what the images take up before and after the trim.
. /pf/lib.sh
. /scenarios/checks.sh

begin
ext4=$(raw_disk ext4 112)
# The smallest that mkfs.xfs makes is 300 MiB, of which 64 are its log.
xfs=$(raw_disk xfs 304)
taken() { stat -c %b "$1"; }
memory=384 extra='pf.tools=vdc' check "xl create" start_guest fs filesystems \
    "$(virtio_disk xvda "$ext4")" "$(virtio_disk xvdb "$xfs")" "$(tools_disk xvdc)"
for type in ext4 xfs; do
    check "$type is full" wait_guest_line fs "PF \(${type}_verified\|error\)=" 140
    full=$(taken "${!type}")
    check "$type is half empty and trimmed" wait_guest_line fs "PF \(${type}_trimmed\|error\)=" 60
    trimmed=$(taken "${!type}")
    equal "the guest saw no error" "" "$(guest_value fs error)"
    check "the trim gives room back in dom0 ($full to $trimmed blocks)" test "$trimmed" -lt $((full * 3 / 4))
    fact "${type}_trimmed_bytes" "$(guest_value fs "${type}_trimmed")"
    check "$type is checked" wait_guest_line fs "PF \(${type}_check\|error\)=" 140
    check "$type held many files" test "$(guest_value fs "${type}_files")" -gt 20
    equal "all as they were after a remount" 1 "$(guest_value fs "${type}_verified")"
    equal "the other half as they were after the trim" 1 "$(guest_value fs "${type}_after_trim")"
    equal "and with new files in the room of the old" 1 "$(guest_value fs "${type}_verified_again")"
    equal "$type is clean" 0 "$(guest_value fs "${type}_check")"
    fact "${type}_files" "$(guest_value fs "${type}_files")"
    fact "${type}_full" "$(guest_value fs "${type}_full")"
done
check "the guest is done" wait_guest_line fs 'PF \(done\|error\)=' 60
equal "the guest saw no error" "" "$(guest_value fs error)"
check "the checkers know a spoilt file system" \
    test "$(guest_value fs ext4_spoilt)" -ne 0 -a "$(guest_value fs xfs_spoilt)" -ne 0
check "the guest powers off" wait_gone fs 30
nothing_left
finish
