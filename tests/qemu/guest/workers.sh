# A guest whose pf.workers= workers do verified I/O at once, without end, marked with pf.tag=.
. /guest/lib.sh
. /guest/disk.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
tag=$(option tag guest)
for number in $(seq 0 $(($(option workers 4) - 1))); do
    worker vda "$tag" "$number" &
done
wait
