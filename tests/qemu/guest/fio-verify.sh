# fio writes and verifies pf.disk= by itself: patterns and checksums, blocks of 512 bytes to
# 1 MiB, 1 to 64 requests at once, from one and from two jobs, with flushes and with trims. One
# start of fio for all, since that takes the emulator seconds.
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
mount_tools

# Each job has a part of the disk to itself and begins when the one before has ended.
cat >/tools/tmp/jobs <<'END'
[global]
filename=/dev/vda
direct=1
ioengine=libaio
thread=1
verify_fatal=1
verify_state_save=0
randrepeat=1
group_reporting=1
stonewall

[sequential-1m-depth4-crc32c]
rw=write
bs=1m
iodepth=4
offset=0
size=24m
verify=crc32c

[sequential-64k-depth1-pattern]
rw=write
bs=64k
iodepth=1
ioengine=psync
offset=24m
size=8m
verify=pattern
verify_pattern=0xdeadbeef

[random-4k-depth32-crc32c]
rw=randwrite
bs=4k
iodepth=32
offset=32m
size=4m
verify=crc32c

[random-512-depth64-md5]
rw=randwrite
bs=512
iodepth=64
offset=36m
size=512k
verify=md5

[random-4k-to-1m-depth16-xxhash-io_uring]
ioengine=io_uring
rw=randwrite
bsrange=4k-1m
blockalign=4k
iodepth=16
offset=40m
size=24m
verify=xxhash

[random-512-to-64k-depth8-sha256]
rw=randwrite
bsrange=512-64k
blockalign=512
iodepth=8
offset=64m
size=4m
verify=sha256

[mixed-8k-depth32-reads-and-writes]
rw=randrw
rwmixread=40
bs=8k
iodepth=32
offset=72m
size=8m
verify=crc32c

[flushed-16k-depth2-crc64]
rw=randwrite
bs=16k
iodepth=2
fdatasync=4
offset=80m
size=2m
verify=crc64

[to-be-trimmed-64k-depth8-crc32c]
rw=randwrite
bs=64k
iodepth=8
offset=84m
size=12m
verify=crc32c

[trims-64k-to-1m-depth4]
rw=randtrim
bsrange=64k-1m
blockalign=64k
iodepth=4
offset=84m
size=12m

[zeroes-after-trims-64k-depth8]
rw=randread
bs=64k
iodepth=8
offset=84m
size=12m
verify=pattern
verify_pattern=0x00

[written-after-trims-32k-depth16-crc32c]
rw=randwrite
bs=32k
iodepth=16
offset=84m
size=12m
verify=crc32c
END
value jobs "$(grep -c '^\[' /tools/tmp/jobs)"
tool fio --output=/tmp/out --output-format=terse /tmp/jobs
value fio "$?"
# Terse: version;fio;job;group;error;read KiB;...
while IFS=';' read -r _ _ job _ error read_kib _; do
    case $job in
        *-*) value "job_$job" "$error" && value "read_$job" "$read_kib" ;;
    esac
done </tools/tmp/out
sed -n 's/^fio:/PF said=fio:/p' /tools/tmp/out | head -n 5

# Two jobs at once, each with its own half, on whatever queues there are.
tool fio --output=/tmp/out2 --name=two --filename=/dev/vda --direct=1 --ioengine=libaio --thread=1 \
    --numjobs=2 --offset=96m --offset_increment=8m --size=8m --rw=randwrite --bs=16k --iodepth=16 \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0
value two_jobs "$?"

# The check of the checker: one sector changed behind its back, and fio must say so.
cut='--name=again --filename=/dev/vda --direct=1 --ioengine=libaio --thread=1 --offset=0 --size=24m --rw=write --bs=1m --iodepth=4 --verify=crc32c --verify_only=1 --verify_state_save=0'
# shellcheck disable=SC2086
tool fio --output=/tmp/again $cut
value again "$?"
printf 'not what fio wrote' | dd of=/dev/vda bs=512 seek=20001 conv=notrunc,fsync 2>/dev/null
# shellcheck disable=SC2086
tool fio --output=/tmp/spoilt $cut >/dev/null 2>&1
value spoilt "$?"
value done 1
