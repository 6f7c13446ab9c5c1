# The guest of the power failure: writes to a raw disk and to files on ext4, and tells what is
# safe, until something ends it. pf.epoch= counts its runs.
. /guest/lib.sh
. /guest/disk.sh

epoch=$(option epoch 0)
wait_device /dev/vda 30 || stop "no /dev/vda"
wait_device /dev/vdb 30 || stop "no /dev/vdb"
mount -t ext4 /dev/vdb /mnt || stop "the file system does not mount"
value alive "$epoch"
/guest/power-failure write raw /dev/vda "$epoch" &
/guest/power-failure write files /mnt "$epoch" &
wait
value ended 1
