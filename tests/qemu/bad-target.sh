# A disk file that cannot be taken: the guest does not start, the daemon's log names the file
# and what is wrong in it, in one line, and nothing is left.
. /pf/lib.sh
. /scenarios/checks.sh

begin
# refused NAME PATTERN CONTENT
refused() {
    log_mark
    printf '%s\n' "$3" >"/disks/$1.pilotfish"
    create_fails "$1" rounds "$(virtio_disk xvda "/disks/$1.pilotfish")"
    check_daemon_said "the log tells of $1: $2" "/disks/$1.pilotfish.*$2"
}
refused bad-toml 'storage' 'storage = "ram'
refused bad-size 'lots' "$(printf 'storage = "ram"\nsize = "lots"')"
refused bad-storage 'tape' "$(printf 'storage = "tape"\nsize = "8MiB"')"
refused bad-key 'sise' "$(printf 'storage = "ram"\nsise = "8MiB"')"
fact xl_create_failed_after_ms "$create_ms"
nothing_left
finish
