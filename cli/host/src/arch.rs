//! Processor architectures of boxes and hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A processor architecture, named as the kernel (`uname -m`) and KIWI name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86 (Debian: amd64).
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm (Debian: arm64).
    Aarch64,
    /// 64-bit little-endian POWER (Debian: ppc64el).
    Ppc64le,
    /// IBM Z (Debian: s390x).
    S390x,
}

impl Arch {
    /// Every architecture, in the order in which they are listed to users.
    pub const ALL: [Arch; 4] = [Arch::X86_64, Arch::Aarch64, Arch::Ppc64le, Arch::S390x];

    /// The architecture this program was built for.
    pub const fn host() -> Arch {
        if cfg!(target_arch = "aarch64") {
            Arch::Aarch64
        } else if cfg!(target_arch = "powerpc64") {
            Arch::Ppc64le
        } else if cfg!(target_arch = "s390x") {
            Arch::S390x
        } else {
            Arch::X86_64
        }
    }

    /// The name as in `uname -m`.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
            Arch::Ppc64le => "ppc64le",
            Arch::S390x => "s390x",
        }
    }

    /// The name as in Debian's archive.
    pub const fn debian_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
            Arch::Ppc64le => "ppc64el",
            Arch::S390x => "s390x",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name was not that of an architecture boxbuild knows.
#[derive(Debug, thiserror::Error)]
#[error("unknown architecture '{0}' (known: x86_64, aarch64, ppc64le, s390x)")]
pub struct UnknownArch(String);

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(name: &str) -> Result<Arch, UnknownArch> {
        Arch::ALL
            .into_iter()
            .find(|arch| arch.name() == name || arch.debian_name() == name)
            .ok_or_else(|| UnknownArch(name.to_owned()))
    }
}
