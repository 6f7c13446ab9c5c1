# fio in a Debian guest: what it writes and verifies by itself, with libaio, io_uring and
# pwrite, on a PV disk, or where storage= says (nbd-disks.sh). In the end fio has to notice a sector that the guest itself
# changed, so that its verdict means something.
. /pf/lib.sh
. /scenarios/checks.sh
. /scenarios/nbd-disks.sh

begin
target=$(stored fio "$(raw_disk fio "${disk_mib:-112}")")
storage_start || die "no server for the disk"
vcpus=2 memory=384 check "xl create" start_guest fio fio-verify "$(virtio_disk xvda "$target")" "$(tools_disk xvdb)"
check_way fio 1
check "the guest has run fio" wait_guest_line fio 'PF \(done\|error\)=' 220
equal "the guest saw no error" "" "$(guest_value fio error)"
equal "fio found everything as it wrote it" 0 "$(guest_value fio fio)"
equal "and told of every job" "$(guest_value fio jobs)" "$(($(grep -c 'PF job_' "$(guest_log fio)") + 1))"
for job in $(sed -n 's/^.*PF job_\([^=]*\)=.*/\1/p' "$(guest_log fio)"); do
    equal "job $job" 0 "$(guest_value fio "job_$job")"
    case $job in
        trims*) ;;
        *) check "which read back what it wrote" test "$(guest_value fio "read_$job")" -gt 0 ;;
    esac
done
equal "two jobs at once" 0 "$(guest_value fio two_jobs)"
equal "fio verifies the first job's blocks again" 0 "$(guest_value fio again)"
equal "and notices a sector that was changed" 1 "$(guest_value fio spoilt)"
check "the guest powers off" wait_gone fio 30
nothing_left
finish
