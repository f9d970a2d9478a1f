//! What a thread may call, as data.

use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde::{Deserialize, Serialize};

/// One allowed system call. Several of the same call are alternatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its number, `libc::SYS_…`.
    pub call: libc::c_long,
    /// What must hold for its arguments, all of it.
    pub conditions: &'static [Condition],
}

/// What must hold for one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which one, from 0.
    pub argument: u8,
    /// What must hold.
    pub check: Check,
}

/// A comparison of an argument. Those of 32 bits (`int`, flags) ignore its upper half, as the
/// kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Check {
    /// Equals this, in 32 bits.
    Is(u32),
    /// Equals this, in 64 bits.
    IsLong(u64),
    /// None of these bits is set, in 32 bits.
    Without(u32),
    /// No bit but these is set, in 32 bits.
    Within(u32),
    /// Equals this in all bits but those of the mask.
    IsBut {
        /// What it equals; none of the ignored bits is set in it.
        value: u32,
        /// Bits that are not compared.
        ignored: u32,
    },
    /// Is the id of this process.
    OwnPid,
}

impl Rule {
    /// Allows a call with any arguments.
    pub const fn any(call: libc::c_long) -> Rule {
        Rule {
            call,
            conditions: &[],
        }
    }

    /// Allows a call with arguments for which all of this holds.
    pub const fn when(call: libc::c_long, conditions: &'static [Condition]) -> Rule {
        Rule { call, conditions }
    }

    /// Returns the rule for the compiler; `None` if it has no conditions.
    pub(super) fn compile(&self) -> Result<Option<SeccompRule>, BackendError> {
        if self.conditions.is_empty() {
            return Ok(None);
        }
        let conditions: Result<Vec<_>, _> =
            self.conditions.iter().map(Condition::compile).collect();
        SeccompRule::new(conditions?).map(Some)
    }
}

impl Condition {
    /// Returns the condition that `check` holds for argument number `argument`, from 0.
    pub const fn new(argument: u8, check: Check) -> Condition {
        Condition { argument, check }
    }

    fn compile(&self) -> Result<SeccompCondition, BackendError> {
        use SeccompCmpArgLen::{Dword, Qword};
        use SeccompCmpOp::{Eq, MaskedEq};
        let masked = |mask: u32| MaskedEq(u64::from(mask));
        let (length, operator, value) = match self.check {
            Check::Is(value) => (Dword, Eq, u64::from(value)),
            Check::IsLong(value) => (Qword, Eq, value),
            Check::Without(bits) => (Dword, masked(bits), 0),
            Check::Within(bits) => (Dword, masked(!bits), 0),
            Check::IsBut { value, ignored } => (Dword, masked(!ignored), u64::from(value)),
            Check::OwnPid => (Dword, Eq, u64::from(std::process::id())),
        };
        SeccompCondition::new(self.argument, length, operator, value)
    }
}
