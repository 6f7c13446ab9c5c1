# What the block layer of an unmodified kernel does to a disk beside plain requests (the subjects
# of blktests' tests of block devices, which Debian does not package; the tests are our own).
. /pf/lib.sh
. /scenarios/checks.sh

begin
image=$(raw_disk layer 64)
vcpus=2 memory=256 check "xl create" start_guest layer block-layer "$(virtio_disk xvda "$image")" "$(tools_disk xvdb)"
check "the guest is done" wait_guest_line layer 'PF exit=' 200
# yields KEY EXPECTED WHAT...
yields() {
    local key=$1 expected=$2
    shift 2
    equal "$*" "$expected" "$(guest_value layer "$key")"
}
yields error "" "the guest saw no error"
yields cached 1 "what was written is read through the page cache"
yields discard_in_cache 1 "a discard is seen through the page cache, its neighbours stay"
yields zeroing_said "" "zeroing succeeds"
yields zeroes_in_cache 1 "so is zeroing"
yields both_on_disk 1 "and so it is on the disk"
yields one_sector_zeroed 1 "a single sector is zeroed, no other"
yields last_sector_zeroed 1 "a range over the end is cut to the disk's last sector"
yields read_at_end 512 "a read over the end yields what there is"
yields beyond_end_refused 1 "a write beyond the end is refused"
check "fsync reaches the disk as a flush" test "$(guest_value layer flushes)" -gt 0
yields settings_fio 0 "fio verifies its blocks while schedulers, limits and CPUs change"
check "which they did" test "$(guest_value layer settings_turns)" -gt 1
check "CPU 1 went and came" test "$(guest_value layer cpu_offline)" -gt 1
fact settings_turns "$(guest_value layer settings_turns)"
yields table_bytes 512 "a partition table"
yields partitions 8192:8192 "two partitions are found"
yields beyond_partition_1 1 "nothing is written beyond the first one's end"
yields beyond_partition_2 1 "nor beyond the second one's"
yields partitions_hold 1 "both hold what was written to them, side by side"
yields partitions_gone 1 "they go with their table"
yields bound_again 5 "the driver lets go of the device and finds it again, also during writes"
yields kept 1 "and the data are what they were"
check "the guest powers off" wait_gone layer 30
for n in 1 2; do yes "partition $n" | head -c 4194304; done >/run/partitions
dd if="$image" bs=64k skip=640 count=128 2>/dev/null | cmp -s - /run/partitions
equal "dom0 finds the partitions' data in the image" 0 $?
nothing_left
finish
