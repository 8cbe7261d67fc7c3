#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Turn the fresh system under $1 into a guest: boot loader files, few units at boot, no keys of its own. Runs with
# the new system's /proc, /sys and /dev mounted. $2 is the UUID that the root file system is going to have.
set -eu
root=$1
root_uuid=$2

in_guest() {
    chroot "$root" "$@"
}

mask() { # mask DIRECTORY NAME...: systemd skips what is a link to /dev/null
    directory=$root/etc/systemd/$1
    shift
    mkdir -p "$directory"
    for name in "$@"; do
        ln -sf /dev/null "$directory/$name"
    done
}

kernel=$(basename "$(ls -d "$root"/boot/vmlinuz-*)")
release=${kernel#vmlinuz-}

# --- initrd: the modules of /usr/share/initramfs-tools/modules.d/zclab suffice, so udev need not run there
for part in hooks/udev scripts/init-top/udev scripts/init-bottom/udev hooks/dmsetup hooks/fsck hooks/keymap; do
    rm -f "$root/usr/share/initramfs-tools/$part"
done
in_guest update-initramfs -u -k "$release"

# --- boot loader: what grub-install would copy, and a core image that knows where the rest lies
grub=$root/boot/grub
modules=$root/usr/lib/grub/i386-pc
mkdir -p "$grub/i386-pc"
cp "$modules"/*.mod "$modules"/*.lst "$modules"/boot.img "$grub/i386-pc/"
in_guest grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p '(hd0,msdos1)/boot/grub' biosdisk part_msdos ext2
in_guest grub-editenv /boot/grub/grubenv create
# The scripts that look for other systems find none here and cost seconds at each update-grub.
for script in 05_debian_theme 20_linux_xen 30_os-prober 30_uefi-firmware; do
    rm -f "$root/etc/grub.d/$script"
done
arguments=$(sed -n 's/^GRUB_CMDLINE_LINUX="\(.*\)"$/\1/p' "$root/etc/default/grub")
cat >"$grub/grub.cfg" <<CFG
# The first boots only: update-grub replaces this file, with the same names, as soon as a kernel is installed.
# linux16 rather than linux, which copies all memory that the kernel will ever need (66 MB here) byte by byte:
# 5 s on an emulated processor.
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
load_env
if [ "\${next_entry}" ]; then
    set default="\${next_entry}"
    set next_entry=
    save_env next_entry
else
    set default="\${saved_entry}"
fi
set timeout=1
menuentry 'Debian GNU/Linux' --id 'gnulinux-simple-$root_uuid' {
    linux16 /boot/$kernel root=/dev/vda1 ro $arguments
    initrd16 /boot/initrd.img-$release
}
submenu 'Advanced options for Debian GNU/Linux' --id 'gnulinux-advanced-$root_uuid' {
    menuentry 'Debian GNU/Linux, with Linux $release' --id 'gnulinux-$release-advanced-$root_uuid' {
        linux16 /boot/$kernel root=/dev/vda1 ro $arguments
        initrd16 /boot/initrd.img-$release
    }
}
CFG

# --- few units: an emulated processor pays for each
in_guest systemctl -q enable zclab-identity.service zclab-mgmt.service ssh.service
in_guest systemctl -q set-default multi-user.target
mask system \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service getty-static.service systemd-logind.service \
    systemd-networkd.service systemd-network-generator.service systemd-pstore.service \
    systemd-random-seed.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
    systemd-journal-flush.service systemd-journal-catalog-update.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
    modprobe@fuse.service modprobe@loop.service kmod-static-nodes.service
mask system-generators \
    systemd-bless-boot-generator systemd-cryptsetup-generator systemd-debug-generator systemd-fstab-generator \
    systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-integritysetup-generator \
    systemd-rc-local-generator systemd-run-generator systemd-system-update-generator systemd-sysv-generator \
    systemd-veritysetup-generator
rm -f "$root/etc/modules-load.d/modules.conf"
sed -i '/pam_motd/d; /pam_mail/d' "$root/etc/pam.d/sshd"

# --- nothing that two guests would share, no way in but the lab's key
in_guest usermod -p '!*' root
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf" "$root/etc/hostname"
echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
# Settings that were for the making of the image.
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap" \
    "$root/etc/dpkg/dpkg.cfg.d/zclab-build"
for cleared in usr/share/doc usr/share/man usr/share/info usr/share/locale var/cache/apt var/lib/apt/lists; do
    rm -rf "${root:?}/$cleared"
    mkdir -p "$root/$cleared"
done
rm -rf "$root"/var/log/*.log "$root"/var/cache/debconf/*-old
# Users and caches are up to date: nothing to do about them at the first boot.
touch "$root/etc/.updated" "$root/var/.updated"
