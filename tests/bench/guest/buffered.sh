# The benchmark, the other guest's side: what guests do (page cache, file system, mixed I/O) and
# how long single I/Os take, on a native disk and on one of the stub's, in turns. Most of this
# guest's memory was used and given back before, so its free pages lie all over it.
# shellcheck shell=sh
. /guest/lib.sh
. /guest/disk.sh
. /guest/tools.sh

rounds=$(option rounds 5)
seconds=$(option seconds 1.5)
latency_seconds=$(option latency_seconds 3)
workloads=$(option workloads none | tr , ' ')
mib=$(option mib 256)
# Of one sequential write: less than the disk, and what the guest may keep unwritten.
write_mib=$(option write_mib 200)
files=$(option files 1000)
. /guest/spans.sh

# Left to the kernel while the rest is filled.
leave_mib=192
# What is freed and what is kept at once: much less than the 2 MiB that a stub maps at once.
piece_kib=64
database_mib=32
# One file's.
text=$(yes 'a small file' | head -c 4095)

# churn: fills memory with two files of a tmpfs, a piece of one and a piece of the other in turn, and
# removes one of them.
churn() {
    available_kib=$(sed -n 's/^MemAvailable: *\([0-9]*\).*/\1/p' /proc/meminfo)
    mkdir -p /churn
    mount -t tmpfs -o size=100% churn /churn
    awk -v pairs=$(((available_kib - leave_mib * 1024) / piece_kib / 2)) -v kib=$piece_kib 'BEGIN {
        piece = sprintf("%1024s", "")
        while (length(piece) < kib * 1024) piece = piece piece
        while (pairs-- > 0) {
            printf "%s", piece >"/churn/kept"
            printf "%s", piece >"/churn/freed"
            # Who is silent for long has hung.
            if (pairs % 1000 == 0) print "PF churning=" pairs
        }
    }' || stop "memory cannot be filled"
    rm /churn/freed
    value churned "kept_mib=$(du -m /churn/kept | cut -f 1) free_kib=$(sed -n 's/^MemFree: *\([0-9]*\).*/\1/p' /proc/meminfo)"
    value buddyinfo "$(tr -s ' \n' ' ' </proc/buddyinfo)"
}

# fresh: nothing is cached and nothing is left to be written.
fresh() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

# fixed LABEL DEVICE UNITS COMMAND...: a span as long as COMMAND takes, which does UNITS of work.
fixed() {
    fixed_label=$1 fixed_device=$2 units=$3
    shift 3
    fresh
    counters "$fixed_device"
    echo "PF begin $at"
    "$@" >/dev/null 2>&1 || stop "$fixed_label: $* failed"
    counters "$fixed_device"
    echo "PF end $fixed_label $at"
    value "work.$fixed_label" "units=$units"
}

# measured LABEL DEVICE SECONDS KIB OPTION...: a span of fio whose I/Os of KIB fio itself counts.
# Its line in terse form, version 3: KiB, ms and the three percentiles asked for are the fields
# 6, 9 and 18 to 20 of reads, 47, 50 and 59 to 61 of writes.
measured() {
    measured_label=$1 measured_device=$2 measured_seconds=$3 block_kib=$4
    shift 4
    fresh
    fio_run "$measured_label" "$measured_device" "$measured_seconds" --output-format=terse --terse-version=3 \
        --percentile_list=50:99:99.9 --ramp_time=300ms --bs="${block_kib}k" "$@"
    work=$(awk -F ';' -v block="$block_kib" '
        function percentile(field) { sub(/.*=/, "", field); return field }
        $1 == 3 && NF > 61 {
            at = $9 > 0 ? 18 : 59
            ms = $9 > $50 ? $9 : $50
            printf "units=%d ms=%d", ($6 + $47) / block, ms
            printf " p50_us=%s p99_us=%s p99.9_us=%s\n", percentile($at), percentile($(at + 1)), percentile($(at + 2))
        }' /tools/tmp/out)
    [ -n "$work" ] || stop "fio tells nothing of $measured_label: $(head -c 200 /tools/tmp/out | tr '\n' ' ')"
    value "work.$measured_label" "$work"
}

# direct_job DEVICE DEPTH: options of a job that goes to the disk itself.
direct_job() { echo --ioengine=libaio --direct=1 --iodepth="$2" --size="${mib}m" --name="$1" --filename="/dev/$1"; }

# mounted KIND: whether the file system of that disk is.
mounted() { grep -q " /tools/tmp/$1 " /proc/mounts; }

# raw KIND: nobody has the disk mounted.
raw() { if mounted "$1"; then umount "/tools/tmp/$1"; fi; }

# ext4 KIND DEVICE: the disk has a file system, a new one if it was not mounted. Nothing of it is
# made later, in the background.
ext4() {
    if mounted "$1"; then return; fi
    mkdir -p "/tools/tmp/$1"
    tool mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=1,lazy_journal_init=1 "/dev/$2" || stop "mke2fs on $2"
    mount -t ext4 -o noinit_itable "/dev/$2" "/tools/tmp/$1" || stop "$2 does not mount"
}

create_files() {
    mkdir "$1"
    n=0
    while [ $n -lt "$files" ]; do
        echo "$text" >"$1/$n" || return 1
        n=$((n + 1))
    done
    sync
}

read_files() { cat "$1"/*; }

# prepare KIND WORKLOAD: makes what it works on, in $directory.
prepare() {
    case $2 in
        ext4-*) ext4 "$1" "$disk" ;;
        *) raw "$1" ;;
    esac
    case $2 in
        ext4-create) rm -rf "$directory/files" ;;
        ext4-read) [ -d "$directory/files" ] || create_files "$directory/files" ;;
        ext4-fsync-8k)
            [ -f "$directory/database" ] ||
                dd if=/dev/zero of="$directory/database" bs=1M count=$database_mib conv=fsync 2>/dev/null
            ;;
    esac
}

# measure ROUND KIND WORKLOAD
measure() {
    label=$1.$2.$3 disk=$(device_of "$2") directory=/tools/tmp/$2
    prepare "$2" "$3"
    # What the stub counted until here is not the workload's.
    [ "$2" = native ] || stub_stats "guest.$1.before.$3"
    case $3 in
        cached-read | cached-reread) fixed "$label" "$disk" "$mib" dd if="/dev/$disk" of=/dev/null bs=128k ;;
        cached-write)
            fixed "$label" "$disk" "$write_mib" dd if=/dev/zero of="/dev/$disk" bs=128k count=$((write_mib * 8)) conv=notrunc,fsync
            ;;
        cached-randread-4k)
            measured "$label" "$disk" "$seconds" 4 --ioengine=psync --direct=0 --rw=randread --size="${mib}m" \
                --gtod_reduce=1 --name="$disk" --filename="/dev/$disk"
            ;;
        ext4-create) fixed "$label" "$disk" "$files" create_files "$directory/files" ;;
        ext4-read) fixed "$label" "$disk" "$files" read_files "$directory/files" ;;
        ext4-fsync-8k)
            measured "$label" "$disk" "$seconds" 8 --ioengine=psync --direct=0 --rw=randwrite --overwrite=1 --fsync=1 \
                --gtod_reduce=1 --size=${database_mib}m --name="$2" --filename="/tmp/$2/database"
            ;;
        mixed-8k-*)
            # shellcheck disable=SC2046
            measured "$label" "$disk" "$seconds" 8 --rw=randrw --rwmixread=70 --gtod_reduce=1 $(direct_job "$disk" "${3##*-}")
            ;;
        latency-*-4k-*)
            rw=${3#latency-}
            # shellcheck disable=SC2046
            measured "$label" "$disk" "$latency_seconds" 4 --rw="${rw%%-*}" $(direct_job "$disk" "${3##*-}")
            ;;
        *) stop "no workload $3" ;;
    esac
    [ "$2" = native ] || stub_stats "guest.$label"
}

# pair_of ROUND: the kinds, each first in every second round.
pair_of() { if [ $(($1 % 2)) = 1 ]; then echo native pilotfish; else echo pilotfish native; fi; }

begin xvdc vda
churn
value fio "$(tool fio --version)"
each_round pair_of "$workloads" measure
value done 1
