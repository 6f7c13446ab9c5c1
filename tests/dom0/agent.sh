#!/bin/sh
# The agent of dom0: reads one-line commands from the console, answers in lines that
# start with "@@PF ". Keep commands short: Xen's serial input holds few characters.
#
#   run NAME SECONDS    run /scenarios/NAME.sh, at most SECONDS
#   shell ROWS COLUMNS  give the console to a shell
#   poweroff            end the machine

stty -F /dev/hvc0 -echo -icrnl 2>/dev/null

say() { echo "@@PF $*"; }

# Each line in one write, so that no other writer gets into the middle of it.
prefix() {
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            "@@PF "*) echo "$line" ;;
            *) echo "@@PF | $line" ;;
        esac
    done
}

uptime_ms() { sed 's/^\([0-9]*\)\.\([0-9][0-9]\).*/\1\20/' /proc/uptime; }

# Whatever a scenario left would spoil the next one. Said aloud, so it is no secret.
clear_up() {
    # A scenario's own NBD servers, with exports that no other has.
    killall -q -KILL nbd-server nbdkit qemu-storage-daemon && say "| clear up: end an NBD server"
    rm -f /run/nbd.conf
    xl list 2>/dev/null | while read -r name id _; do
        case $id in
            0 | *[!0-9]* | "") ;;
            *)
                say "| clear up: destroy $name ($id)"
                timeout 20 xl destroy "$id"
                ;;
        esac
    done
}

run() {
    name=$1
    limit=${2:-120}
    script=/scenarios/$name.sh
    say "begin $name"
    from=$(uptime_ms)
    if [ -f "$script" ]; then
        {
            timeout -k 5 "$limit" bash "$script" 2>&1 </dev/null
            echo $? >/run/status
        } | prefix
        status=$(cat /run/status)
    else
        say "| no scenario $name"
        status=127
    fi
    # A scenario that ran out of time could not show why.
    if [ "$status" != 0 ]; then
        { xl list; tail -n 20 /var/log/pilotfishd.log /var/log/xen/xen-hotplug.log; tail -n 8 /var/log/xen/console/*.log; } 2>&1 | prefix
    fi
    say "end $name rc=$status ms=$(($(uptime_ms) - from))"
    clear_up 2>&1 | prefix
}

while :; do
    say ready
    read -r command argument limit || sleep 1
    command=$(printf %s "$command" | tr -d '\r')
    argument=$(printf %s "$argument" | tr -d '\r')
    limit=$(printf %s "$limit" | tr -d '\r')
    case $command in
        run) run "$argument" "$limit" ;;
        poweroff) poweroff -f ;;
        shell)
            stty -F /dev/hvc0 sane rows "${argument:-24}" cols "${limit:-80}" 2>/dev/null
            dd if=/dev/zero of=/disks/guest.img bs=1M count=0 seek=128 2>/dev/null
            printf 'storage = "ram"\nsize = "8MiB"\n' >/disks/memory.pilotfish
            cd /root || cd /
            # We are process 1 and no init that poweroff could ask.
            echo "alias poweroff='poweroff -f'" >/root/.shrc
            ENV=/root/.shrc PS1='dom0# ' setsid cttyhack sh
            poweroff -f
            ;;
        "") ;;
        *) say "| unknown command $command" ;;
    esac
done
