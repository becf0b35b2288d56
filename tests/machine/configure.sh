#!/bin/sh
# Run in the unpacked Debian, once: makes of it a machine that boots quickly without a real processor.
# What a station really has is left as Debian has it; what is taken out serves hardware that QEMU doesn't show, or people.
set -eu

kernel=$(basename /usr/lib/modules/*)
cd "/usr/lib/modules/$kernel/kernel"
for folder in gpu infiniband net/ethernet net/wireless net/fddi net/arcnet net/wan net/can net/ieee802154 scsi/lpfc \
  scsi/qla2xxx scsi/bfa scsi/mpt3sas scsi/aacraid scsi/megaraid scsi/qla4xxx scsi/be2iscsi scsi/cxgbi scsi/aic7xxx scsi/bnx2fc \
  scsi/bnx2i scsi/hpsa scsi/smartpqi scsi/isci iio hwmon staging platform comedi mtd isdn bluetooth edac thunderbolt atm \
  message media/pci media/dvb-frontends media/tuners media/usb/dvb-usb media/usb/dvb-usb-v2 ufs firewire video/fbdev; do
  rm -rf "drivers/$folder"
done
rm -rf sound/soc sound/pci sound/firewire sound/isa net/bluetooth net/mac80211 net/wireless net/nfc net/tipc net/sctp \
  net/rxrpc net/ceph net/atm fs/ocfs2 fs/gfs2 fs/ceph fs/afs fs/nilfs2 fs/ubifs fs/dlm fs/coda fs/jfs
rm -rf /boot/initrd* /boot/System.map* /usr/share/doc /usr/share/man /usr/share/icons /usr/share/lintian /var/lib/apt/lists/*
depmod -a "$kernel"
cd /

echo dock >/etc/hostname
echo '127.0.0.1 localhost dock' >/etc/hosts
echo 'nameserver 10.0.2.3' >/etc/resolv.conf
ln -sf /usr/share/zoneinfo/Asia/Shanghai /etc/localtime
echo Asia/Shanghai >/etc/timezone
echo LANG=C.UTF-8 >/etc/default/locale
echo 5a8f6f0c3b1d4e7c9a2b6d8e0f1a3c5e >/etc/machine-id
ln -sf /etc/machine-id /var/lib/dbus/machine-id
cat >/etc/fstab <<'TABLE'
/dev/vda              /                      ext4 errors=remount-ro 0 1
LABEL=station         /var/lib/capture-agent ext4 defaults          0 2
LABEL=evidence        /srv/evidence          ext4 defaults          0 2
TABLE
mkdir -p /var/lib/capture-agent /srv/evidence /var/log/journal /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nRateLimitIntervalSec=0\n' >/etc/systemd/journald.conf.d/machine.conf

# The chipset of QEMU; each of these costs up to 200 ms at each boot.
for module in pcspkr psmouse iTCO_wdt iTCO_vendor_support lpc_ich i2c_i801 serio_raw parport_pc parport ppdev intel_rapl_msr \
  kvm_amd kvm_intel kvm ccp ahci libahci ata_piix floppy sr_mod cdrom qemu_fw_cfg efi_pstore tiny_power_button button ac; do
  echo "blacklist $module"
done >/etc/modprobe.d/machine.conf

cat >/etc/systemd/system/machine-net.service <<'UNIT'
[Unit]
Description=Address on QEMU's network
DefaultDependencies=no
After=systemd-tmpfiles-setup-dev.service
Wants=network.target network-online.target
Before=network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=-/bin/busybox sh -c 'ip link set lo up; [ -e /sys/class/net/eth0 ] && ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 && ip route add default via 10.0.2.2'

[Install]
WantedBy=multi-user.target
UNIT

# Cold plug of what a test can see, not of 63 terminals, memory banks and the like.
mkdir -p /etc/systemd/system/systemd-udev-trigger.service.d /etc/systemd/system/qemu-guest-agent.service.d
matches=
for name in block pci usb net virtio virtio-ports scsi hid input sound video4linux usb-serial rtc tpm tpmrm misc; do
  matches="$matches --subsystem-match=$name"
done
cat >/etc/systemd/system/systemd-udev-trigger.service.d/machine.conf <<UNIT
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add$matches
UNIT
# The agent of QEMU, which runs the tests' commands: as soon as its port is there.
printf '[Unit]\nDefaultDependencies=no\n[Service]\nKillMode=process\nOOMScoreAdjust=-900\nLogLevelMax=notice\n' \
  >/etc/systemd/system/qemu-guest-agent.service.d/machine.conf

mkdir -p /etc/systemd/system-generators
for name in debug getty gpt-auto hibernate-resume integritysetup rc-local run system-update sysv veritysetup; do
  ln -sf /dev/null "/etc/systemd/system-generators/systemd-$name-generator"
done
systemctl set-default multi-user.target
systemctl enable machine-net.service
systemctl disable e2scrub_reap.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer fstrim.timer smartmontools.service smartd.service udisks2.service || true
# Started by the tests that need them.
for unit in nfs-server nfs-client.target nfs-blkmap rpcbind.service rpcbind.socket smbd nmbd winbind samba-ad-dc; do
  systemctl disable "$unit" || true
done
systemctl mask getty@.service serial-getty@.service console-getty.service getty.target systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount systemd-pstore.service systemd-firstboot.service systemd-machine-id-commit.service \
  systemd-repart.service systemd-update-utmp.service systemd-update-utmp-runlevel.service sys-kernel-tracing.mount \
  sys-kernel-debug.mount dev-hugepages.mount dev-mqueue.mount systemd-tmpfiles-clean.timer \
  systemd-journal-catalog-update.service systemd-hwdb-update.service ldconfig.service systemd-rfkill.socket \
  systemd-random-seed.service sys-fs-fuse-connections.mount systemd-initctl.socket modprobe@drm.service \
  modprobe@efi_pstore.service modprobe@fuse.service
systemd-hwdb --usr update
journalctl --update-catalog
passwd -d root
touch /etc/.updated /var/.updated
