//! Where each test can run.

/// What a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Venue {
    /// Any engine that runs machines: qemu here, kvm on a true /dev/kvm or in the lab.
    Engine,
    /// The same, but it says little about the engine: it is of what the program does before a machine
    /// runs, after it ended, or with any machine. The lab, which is slow, runs it when it is asked to
    /// run all.
    Program,
    /// The qemu engine only.
    Qemu,
    /// A stand-in for podman.
    Container,
    /// A podman that works.
    Podman,
    /// Minutes to half an hour: real boxes, real images, distributions' own guests. Ignored unless
    /// `--ignored` asks for it.
    Full,
}

/// An end-to-end test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Test {
    pub name: &'static str,
    pub run: fn(),
    pub venue: Venue,
}

/// Registers functions of a module as tests, under the venue in which they run.
#[macro_export]
macro_rules! tests {
    ($($venue:ident: $($name:ident),+;)+) => {
        pub(crate) const TESTS: &[$crate::registry::Test] = &[$($(
            $crate::registry::Test {
                name: stringify!($name),
                run: $name,
                venue: $crate::registry::Venue::$venue,
            },
        )+)+];
    };
}
