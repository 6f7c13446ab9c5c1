# A guest that sleeps in three ways while two workers do verified I/O.
. /guest/lib.sh
. /guest/disk.sh

# starts: how often the driver has begun on the disk; each time the kernel tells its queues.
starts() { dmesg | grep -c 'virtio0: .* default/read/poll queues'; }

# slept WAY STATE: goes to sleep and says when it is awake again.
slept() {
    sleep 2
    value sleeping "$1"
    echo "$2" >/sys/power/state || stop "cannot sleep: $1"
    value "starts_$1" "$(starts)"
    value woken "$1"
}

wait_device /dev/vda 30 || stop "no /dev/vda"
dmesg -n 4
value ways "$(cat /sys/power/state /sys/power/mem_sleep | tr '\n' ' ')"
for number in 0 1; do
    worker vda suspend "$number" &
done
# Without swap there is no place for the image, so this fails. But only after the devices were
# frozen, the other CPU was taken down, the image made, and all of it undone.
for n in 1 2 3; do
    sleep 1
    echo disk 2>/dev/null >/sys/power/state
    value starts_thawed "$(starts)"
    value thawed "$n"
done
# The kernel arms the port's interrupt only while somebody has it open.
exec 3<>/dev/ttyAMA0
echo enabled >/sys/class/tty/ttyAMA0/power/wakeup || stop "the serial port cannot wake"
slept idle freeze
case $(cat /sys/power/mem_sleep) in
    *deep*) value deep 1 ;;
    *) value deep 0 ;;
esac
if grep -q deep /sys/power/mem_sleep; then
    slept ram1 mem
    slept ram2 mem
fi
wait
