//! From tables to a filter, and from there to a thread.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

use super::error::FilterError;
use super::rule::Rule;
use super::trap;

/// A filter for threads of one kind.
#[derive(Debug, Clone)]
pub struct Filter(BpfProgram);

impl Filter {
    /// Makes the filter that allows what is in one of `tables`.
    ///
    /// # Errors
    /// If a rule names an argument that no call has.
    pub fn compile(tables: &[&[Rule]]) -> Result<Filter, FilterError> {
        let rules = tables.iter().copied().flatten();
        compile(rules, SeccompAction::Trap, SeccompAction::Allow).map(Filter)
    }

    /// Makes one that answers any other call with EPERM, for a thread whose process must survive it.
    ///
    /// # Errors
    /// If a rule names an argument that no call has.
    pub fn refusing(tables: &[&[Rule]]) -> Result<Filter, FilterError> {
        let rules = tables.iter().copied().flatten();
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        compile(rules, refuse, SeccompAction::Allow).map(Filter)
    }

    /// Installs it for the calling thread, and those that it starts, irrevocably. `name` is what the
    /// message of a trap calls the thread; longer than 15 bytes, it is cut.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn install(&self, name: &str) -> Result<(), FilterError> {
        trap::name_thread(name);
        Ok(apply_filter(&self.0)?)
    }

    /// Returns the number of its instructions.
    pub fn instructions(&self) -> usize {
        self.0.len()
    }
}

/// Whether the kernel has filters of system calls.
pub fn is_available() -> bool {
    let trap = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads one number.
    unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const trap,
        ) == 0
    }
}

/// Makes clone3(2), whose flags are in memory that no filter sees, a call that the kernel does not
/// have: the C libraries then use clone(2).
pub(crate) fn prepare() -> Result<(), FilterError> {
    let clone3 = [Rule::any(libc::SYS_clone3)];
    let error = SeccompAction::Errno(libc::ENOSYS as u32);
    let program = compile(clone3.iter(), SeccompAction::Allow, error)?;
    Ok(apply_filter(&program)?)
}

fn compile<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, FilterError> {
    let mut calls: BTreeMap<i64, Alternatives> = BTreeMap::new();
    for rule in rules {
        let alternatives = calls.entry(number(rule.call)).or_default();
        match rule.compile()? {
            Some(rule) => alternatives.rules.push(rule),
            None => alternatives.any = true,
        }
    }
    let calls = calls
        .into_iter()
        .map(|(call, alternatives)| (call, alternatives.into_rules()))
        .collect();
    Ok(SeccompFilter::new(calls, otherwise, matched, ARCH)?.try_into()?)
}

/// The numbers of calls have 64 bits on all hosts that this program is for.
fn number(call: libc::c_long) -> i64 {
    #[allow(clippy::useless_conversion, reason = "c_long depends on the target")]
    i64::from(call)
}

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

#[derive(Default)]
struct Alternatives {
    any: bool,
    rules: Vec<SeccompRule>,
}

impl Alternatives {
    /// No rule stands for any arguments.
    fn into_rules(self) -> Vec<SeccompRule> {
        if self.any { Vec::new() } else { self.rules }
    }
}
