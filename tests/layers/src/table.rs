//! The order of the packages, written once.
//!
//! A package depends on packages of the rows above its own, and on no other of this workspace. A
//! new package is entered here, in the lowest row that has all it needs above it.

/// One row of the order.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    /// What the packages of this row have in common.
    pub name: &'static str,
    /// Whether they are shipped: only the files of these are searched for circles.
    pub shipped: bool,
    /// The names in their `Cargo.toml`.
    pub packages: &'static [&'static str],
}

/// A dependency that the order forbids and that is there all the same.
#[derive(Debug, Clone, Copy)]
pub struct Exception {
    /// The package that depends.
    pub from: &'static str,
    /// The package it depends on.
    pub to: &'static str,
    /// Why. An exception is for `[dev-dependencies]` only.
    pub reason: &'static str,
}

/// From the bottom to the top.
pub const LAYERS: &[Layer] = &[
    Layer {
        name: "ground",
        shipped: true,
        packages: &[
            "boxbuild-host",
            "boxbuild-jail",
            "boxbuild-protocol",
            "boxbuild-replay",
            "boxbuild-vmm-driver",
        ],
    },
    Layer {
        name: "guest and shares",
        shipped: true,
        packages: &["boxbuild-boxinit", "boxbuild-virtiofs"],
    },
    Layer {
        name: "machine",
        shipped: true,
        packages: &[
            "boxbuild-firmware",
            "boxbuild-virtiofs-client",
            "boxbuild-vmm",
        ],
    },
    Layer {
        name: "parsers",
        shipped: true,
        packages: &[
            "boxbuild-description",
            "boxbuild-package-cache",
            "boxbuild-parsers",
            "boxbuild-provenance",
        ],
    },
    Layer {
        name: "engines and boxes",
        shipped: true,
        packages: &["boxbuild-boxes", "boxbuild-engine", "boxbuild-workloads"],
    },
    Layer {
        name: "core",
        shipped: true,
        packages: &["boxbuild-core"],
    },
    Layer {
        name: "images",
        shipped: true,
        packages: &["boxbuild-images"],
    },
    Layer {
        name: "program",
        shipped: true,
        packages: &["boxbuild"],
    },
    Layer {
        name: "benches and tests",
        shipped: false,
        packages: &[
            "boxbuild-bench",
            "boxbuild-bench-block",
            "boxbuild-bench-boot",
            "boxbuild-bench-net",
            "boxbuild-bench-virtiofs",
            "boxbuild-layers",
            "boxbuild-tests",
        ],
    },
];

/// What the order forbids and tests need.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        from: "boxbuild-jail",
        to: "boxbuild-jail",
        reason: "its tests switch on the feature proofs",
    },
    Exception {
        from: "boxbuild-virtiofs",
        to: "boxbuild-virtiofs",
        reason: "its tests switch on the feature unchecked-names",
    },
    Exception {
        from: "boxbuild-virtiofs",
        to: "boxbuild-virtiofs-client",
        reason: "the client of the share's tests knows its wire format",
    },
];
