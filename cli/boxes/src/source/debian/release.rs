//! Distributions whose packages are Debian's, and their releases.

use boxbuild_host::arch::Arch;

/// A distribution of Debian's kind.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name in `--from NAME:SUITE`.
    pub(super) name: &'static str,
    /// Its name in sentences, and the origin that its lists of packages have.
    pub(super) title: &'static str,
    /// Public keys that its packages are signed with, in the place where its package has them.
    pub(super) keys: &'static str,
    /// Debian's package with them.
    pub(super) keys_package: &'static str,
    /// Components that have what a box needs.
    pub(super) components: &'static str,
    /// mmdebstrap's own mirror, if the host has none.
    pub(super) has_default_mirror: bool,
    /// Names of releases that only it has, and of what they are called in turn. Which distribution a
    /// mirror has is known for certain only after `apt-get update`.
    pub(super) releases: &'static [&'static str],
    /// Derivatives that call their releases as it does.
    pub(super) derivatives: &'static [&'static str],
    /// Suites that boxes are made of.
    pub(super) suites: &'static [Suite],
    /// Returns the package with the kernel.
    pub(super) kernel: fn(Arch) -> &'static [&'static str],
}

/// A release.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suite {
    /// Its name.
    pub(super) name: &'static str,
    /// Its version of Python.
    pub(super) python: &'static str,
    /// Packages that only some suites have.
    pub(super) more: &'static [&'static str],
}

/// Debian.
pub(super) const DEBIAN: Family = Family {
    name: "debian",
    title: "Debian",
    keys: "/usr/share/keyrings/debian-archive-keyring.gpg",
    keys_package: "debian-archive-keyring",
    components: "main",
    has_default_mirror: true,
    releases: &[
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "oldoldstable",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ],
    derivatives: &["raspbian", "raspberrypi", "devuan", "kali"],
    suites: &[
        Suite {
            name: "bookworm",
            python: "3.11",
            more: &[],
        },
        Suite {
            name: "trixie",
            python: "3.13",
            more: &["systemd-ukify", "ubuntu-keyring"],
        },
    ],
    // The flavour for virtual machines where there is one. All of them have virtio-fs.
    kernel: |arch| match arch {
        Arch::X86_64 => &["linux-image-cloud-amd64"],
        Arch::Aarch64 => &["linux-image-cloud-arm64"],
        Arch::Ppc64le => &["linux-image-powerpc64le"],
        Arch::S390x => &["linux-image-s390x"],
    },
};

/// Ubuntu.
pub(super) const UBUNTU: Family = Family {
    name: "ubuntu",
    title: "Ubuntu",
    keys: "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    keys_package: "ubuntu-keyring",
    components: "main universe",
    has_default_mirror: false,
    releases: &["focal", "jammy", "noble", "plucky", "questing", "resolute"],
    derivatives: &["mint", "elementary", "pop-os"],
    suites: &[Suite {
        name: "noble",
        python: "3.12",
        more: &["systemd-ukify", "ubuntu-keyring"],
    }],
    kernel: |_| &["linux-image-virtual"],
};
