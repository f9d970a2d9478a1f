//! Packages and configuration of a box of Debian.

use boxbuild_host::arch::Arch;

/// Packages that boot the box and bring up its network.
pub(super) const BASE: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "systemd-resolved",
    "udev",
    "dbus",
    "kmod",
    "initramfs-tools",
    "busybox",
    "zstd",
    "iproute2",
    "ca-certificates",
    "openssh-server",
];

/// Packages that KIWI and an apt-based build of archives, containers, squashfs and disk images need.
pub(super) const BUILD: &[&str] = &[
    "python3",
    "python3-pip",
    "python3-lxml",
    "python3-yaml",
    "python3-requests",
    "python3-simplejson",
    "mmdebstrap",
    "debootstrap",
    "gnupg",
    "gpg",
    "gpgv",
    "debian-archive-keyring",
    "curl",
    "rsync",
    "qemu-utils",
    "e2fsprogs",
    "btrfs-progs",
    "xfsprogs",
    "dosfstools",
    "parted",
    "gdisk",
    "fdisk",
    "kpartx",
    "lvm2",
    "cryptsetup-bin",
    "squashfs-tools",
    "xorriso",
    "mtools",
    "cpio",
    "bzip2",
    "xz-utils",
    "pigz",
    "file",
    "lsof",
    "psmisc",
    "procps",
    "kbd",
    "umoci",
    "skopeo",
    "grub2-common",
];

/// Returns the packages with the boot loaders of an architecture.
pub(super) fn boot_loaders(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["grub-pc-bin", "grub-efi-amd64-bin"],
        Arch::Aarch64 => &["grub-efi-arm64-bin"],
        Arch::Ppc64le => &["grub-ieee1275-bin"],
        Arch::S390x => &["s390-tools"],
    }
}

/// Returns the package with the kernel: the flavour for virtual machines where there is one. All of
/// them have virtio-fs.
pub(super) fn kernel(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "linux-image-cloud-amd64",
        Arch::Aarch64 => "linux-image-cloud-arm64",
        Arch::Ppc64le => "linux-image-powerpc64le",
        Arch::S390x => "linux-image-s390x",
    }
}

/// Units that a box for one build does not need.
pub(super) const MASKED: &[&str] = &[
    "systemd-logind.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
    "systemd-hwdb-update.service",
    "systemd-firstboot.service",
    "systemd-update-done.service",
    "systemd-journal-flush.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-pcrphase.service",
    "systemd-tpm2-setup.service",
    "systemd-tpm2-setup-early.service",
    "ldconfig.service",
    "getty@tty1.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "fstrim.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "lvm2-monitor.service",
    "kmod-static-nodes.service",
    "console-setup.service",
    "keyboard-setup.service",
    "systemd-binfmt.service",
    "tmp.mount",
];

/// Options of dpkg: paths that are not unpacked, and no flushes to the disk.
pub(super) const EXCLUDED: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "force-unsafe-io",
];

/// Configuration files of the box: path and content.
pub(super) const FILES: &[(&str, &str)] = &[
    ("etc/fstab", "/dev/vda1 / ext4 defaults,noatime 0 0\n"),
    ("etc/hostname", "boxbuild\n"),
    ("etc/machine-id", ""),
    (
        "etc/systemd/network/10-lan0.link",
        "[Match]\nDriver=virtio_net\n\n[Link]\nName=lan0\n",
    ),
    (
        "etc/systemd/network/10-lan0.network",
        "[Match]\nName=lan0 eth0\n\n[Network]\nDHCP=yes\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    ),
    (
        "etc/systemd/journald.conf.d/boxbuild.conf",
        "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
    ),
    (
        // For --box-debug: who has the console has the machine anyway.
        "etc/systemd/system/serial-getty@hvc0.service.d/boxbuild.conf",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear %I $TERM\n",
    ),
];
