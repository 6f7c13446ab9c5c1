# Installs onto the first disk what the second has the packages of, as debootstrap does it: unpack
# them all, so that there is a dpkg to run, then have that install them in order. Leaves a unit
# that tests the system at each of its boots.
. /guest/lib.sh

wait_device /dev/vda 30 || stop "no /dev/vda"
wait_device /dev/vdb 30 || stop "no /dev/vdb"
mkfs.ext4 -q -F /dev/vda || stop "mkfs failed"
mkdir -p /new /debs
mount -t ext4 /dev/vda /new || stop "the disk does not mount"
mount -t ext4 -o ro /dev/vdb /debs || stop "the packages' disk does not mount"
# base-files first: it has the links that make /bin a part of /usr.
for deb in /debs/base-files_*.deb /debs/*.deb; do
    ar -p "$deb" data.tar.xz | unxz | tar -x -C /new || stop "cannot unpack $deb"
done
value extracted "$(ls /debs/*.deb | wc -l)"
: >/new/var/lib/dpkg/status
mkdir -p /new/debs
for dir in dev proc sys debs; do mount --bind /$dir /new/$dir; done
# Nothing is to be started in here.
printf '#!/bin/sh\nexit 101\n' >/new/usr/sbin/policy-rc.d
chmod 755 /new/usr/sbin/policy-rc.d
chroot /new /usr/bin/env -i PATH=/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true \
    sh -c 'dpkg --install --force-depends /debs/*.deb && dpkg --audit' >/tmp/dpkg.log 2>&1 ||
    { tail -n 20 /tmp/dpkg.log; stop "dpkg failed"; }
installed=$(chroot /new dpkg-query -W -f '${db:Status-Abbrev}\n' | grep -c '^ii')
rm /new/usr/sbin/policy-rc.d
echo "/dev/vda / ext4 defaults 0 1" >/new/etc/fstab
echo pilotfish >/new/etc/hostname
cp /guest/debian-check.sh /new/usr/local/sbin/pilotfish-check
cat >/new/etc/systemd/system/pilotfish-check.service <<'END'
[Unit]
After=multi-user.target
[Service]
ExecStart=/bin/bash /usr/local/sbin/pilotfish-check
StandardOutput=tty
TTYPath=/dev/hvc0
[Install]
WantedBy=multi-user.target
END
chroot /new systemctl enable pilotfish-check.service 2>/dev/null || stop "cannot enable the unit"
for dir in dev proc sys debs; do umount /new/$dir; done
umount /new || stop "cannot unmount"
value installed "$installed"
