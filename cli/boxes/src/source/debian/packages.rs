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

/// Packages with what KIWI 11 calls for images of apt-based distributions, whatever their type: programs
/// that its source names, and what these need. KIWI has no f2fs, and calls no program of isolinux.
pub(super) const BUILD: &[&str] = &[
    // KIWI itself, with the modules for descriptions in YAML and TOML (`kiwi[markup]`).
    "python3",
    "python3-pip",
    "python3-lxml",
    "python3-yaml",
    "python3-requests",
    "python3-simplejson",
    "python3-anymarkup-core",
    "python3-xmltodict",
    "python3-toml",
    // For `image info --resolve-package-list`.
    "python3-solv",
    "libsolv-tools",
    // Extensions of descriptions.
    "libxml2-utils",
    // Root trees.
    "mmdebstrap",
    "debootstrap",
    "gnupg",
    "gpg",
    "gpgv",
    "debian-archive-keyring",
    "openssl",
    "curl",
    "rsync",
    "patch",
    "screen",
    "file",
    "lsof",
    "psmisc",
    "procps",
    "kbd",
    // Archives and compression.
    "tar",
    "cpio",
    "gzip",
    "bzip2",
    "xz-utils",
    "pigz",
    "zstd",
    "zip",
    "unzip",
    "zsync",
    // Disks and file systems.
    "qemu-utils",
    "e2fsprogs",
    "btrfs-progs",
    "xfsprogs",
    "dosfstools",
    "erofs-utils",
    "squashfs-tools",
    "parted",
    "gdisk",
    "fdisk",
    "kpartx",
    "dmsetup",
    "lvm2",
    "mdadm",
    "cryptsetup-bin",
    "snapper",
    // Media.
    "xorriso",
    "mtools",
    "isomd5sum",
    // Containers.
    "umoci",
    "skopeo",
    "buildah",
    // `strings` looks at GRUB's binaries.
    "binutils",
];

/// Returns the packages with the boot loaders of an architecture.
pub(super) fn boot_loaders(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &[
            "grub2-common",
            "grub-pc-bin",
            "grub-efi-amd64-bin",
            "grub-efi-amd64-signed",
            "grub-efi-ia32-bin",
            "shim-signed",
            "sbsigntool",
            "systemd-boot-efi",
            "isolinux",
            "syslinux-common",
        ],
        Arch::Aarch64 => &[
            "grub2-common",
            "grub-efi-arm64-bin",
            "grub-efi-arm64-signed",
            "shim-signed",
            "sbsigntool",
            "systemd-boot-efi",
        ],
        Arch::Ppc64le => &["grub2-common", "grub-ieee1275-bin"],
        Arch::S390x => &["s390-tools"],
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
    "mdadm-waitidle.service",
    "mdcheck_start.timer",
    "mdcheck_continue.timer",
    "mdmonitor-oneshot.timer",
    "mdmonitor.service",
    "snapper-boot.timer",
    "snapper-cleanup.timer",
    "snapper-timeline.timer",
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
    // Hooks of the initial ramdisk, for root file systems that the box does not have.
    "path-exclude=/usr/share/initramfs-tools/hooks/mdadm",
    "path-exclude=/usr/share/initramfs-tools/hooks/btrfs",
    "path-exclude=/usr/share/initramfs-tools/hooks/lvm2",
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
        // Debian has no checkmedia, which KIWI marks media with by default. KIWI 11 wants sections as mappings, and
        // puts a description's own etc/kiwi.yml over this one.
        "usr/share/kiwi/kiwi.yml.d/50-boxbuild.yml",
        "iso:\n  media_tag_tool: isomd5sum\n",
    ),
    (
        // Arrays that KIWI makes are not assembled behind its back.
        "etc/mdadm/mdadm.conf",
        "AUTO -all\n",
    ),
    (
        // For --box-debug: who has the console has the machine anyway.
        "etc/systemd/system/serial-getty@hvc0.service.d/boxbuild.conf",
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear %I $TERM\n",
    ),
];
