//! The architectures that the emulated machine can have.

use std::path::Path;
use std::process::Command;

use boxbuild_tests::command::command;
use clap::ValueEnum;
use clap::builder::PossibleValue;

/// The architecture of a machine, and of all that runs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// The host's: its own programs and libraries are used.
    pub(crate) const HOST: Arch = if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };

    pub(crate) fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Debian's name.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// Rust's name of the target with glibc.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-unknown-linux-gnu",
            Arch::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The emulator, and its package.
    pub(crate) fn emulator(self) -> (&'static str, &'static str) {
        match self {
            Arch::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
            Arch::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
        }
    }

    /// `e_machine` of its programs (ELF gABI, figure 4-2).
    pub(crate) fn elf_machine(self) -> u16 {
        match self {
            Arch::X86_64 => 62,
            Arch::Aarch64 => 183,
        }
    }

    /// A command that has Rust's compiler for this architecture.
    /// `folder` is where it writes to.
    pub(crate) fn rustc(self, folder: &Path) -> Command {
        if self == Arch::HOST {
            return command("rustc");
        }
        let script = boxbuild_tests::debian::tests_folder().join("setup/toolchain");
        let mut rustc = command(script);
        rustc.arg(self.name()).arg("--folder").arg(folder);
        rustc.args(["rustc", "--target", self.target()]);
        rustc
    }
}

impl ValueEnum for Arch {
    fn value_variants<'a>() -> &'a [Arch] {
        &[Arch::X86_64, Arch::Aarch64]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).alias(self.debian()))
    }
}
