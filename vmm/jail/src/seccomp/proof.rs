//! Tries rules: for each, a process makes the call with arguments that the rule allows, with each of
//! them changed, and without the rule.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde::{Deserialize, Serialize};

use super::{Check, Condition, Filter, Rule};
use crate::{Entered, Launch, Program, Role};

/// The role that programs of such tests have.
pub const ROLE: Role = Role {
    name: "prove-rule",
    run,
};

/// A process makes one call in milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Stands for the id of the process that makes the call.
const OWN_PID: u64 = 0x0bad_cafe_0bad_cafe;

/// What a process tries.
#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    call: libc::c_long,
    arguments: [u64; 6],
    /// Conditions of the rule for the call, if there is one.
    rule: Option<Vec<Condition>>,
}

/// Makes the call under a filter of that one rule.
#[allow(clippy::needless_pass_by_value, reason = "the type of roles")]
fn run(entered: Entered) -> Result<(), Box<dyn Error>> {
    let attempt: Attempt = entered.config()?;
    let call = attempt.call;
    let end = [Rule::any(libc::SYS_exit_group), Rule::any(libc::SYS_write)];
    let mut rules: Vec<Rule> = end.into_iter().filter(|rule| rule.call != call).collect();
    if let Some(conditions) = attempt.rule {
        // The process is about to end.
        rules.push(Rule::when(call, Vec::leak(conditions)));
    }
    let [a, b, c, d, e, f] = attempt.arguments.map(|argument| match argument {
        OWN_PID => u64::from(std::process::id()),
        argument => argument,
    });
    let filter = Filter::compile(&[&rules])?;
    if call == libc::SYS_rt_sigreturn {
        return return_from_signal(&filter);
    }
    filter.install("prover")?;
    // SAFETY: the calls get addresses that are no addresses, and fail.
    unsafe {
        libc::syscall(call, a, b, c, d, e, f);
        libc::syscall(libc::SYS_exit_group, 0);
    }
    Ok(())
}

/// Returns from the handler of a signal, which is when the call is made: it takes the processor's
/// state from the stack, so that it is not made for its own sake.
fn return_from_signal(filter: &Filter) -> Result<(), Box<dyn Error>> {
    extern "C" fn handle(_: libc::c_int) {
        HANDLED.store(true, Ordering::SeqCst);
    }
    static HANDLED: AtomicBool = AtomicBool::new(false);
    let action = SigAction::new(
        SigHandler::Handler(handle),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler stores a number, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    nix::unistd::alarm::set(1);
    filter.install("prover")?;
    while !HANDLED.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    // SAFETY: it ends the process.
    unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    Ok(())
}

/// Tries `rule` in processes of `program`.
///
/// # Errors
/// If something passes that must not, or the other way round; in words.
pub fn prove(program: &Program, rule: &Rule) -> Result<(), String> {
    let right = allowed(rule.conditions);
    let conditions = Some(rule.conditions.to_vec());
    if trapped(program, rule, right, conditions.clone())? {
        return Err(format!("{rule:?}: refused with {right:x?}"));
    }
    if !trapped(program, rule, right, None)? {
        return Err(format!("{rule:?}: passes without the rule"));
    }
    for condition in rule.conditions {
        let mut wrong = right;
        if let Some(argument) = wrong.get_mut(usize::from(condition.argument)) {
            *argument = refused(condition.check);
        }
        if !trapped(program, rule, wrong, conditions.clone())? {
            return Err(format!("{rule:?}: passes with {wrong:x?}"));
        }
    }
    Ok(())
}

fn trapped(
    program: &Program,
    rule: &Rule,
    arguments: [u64; 6],
    conditions: Option<Vec<Condition>>,
) -> Result<bool, String> {
    let attempt = Attempt {
        call: rule.call,
        arguments,
        rule: conditions,
    };
    let child = Launch::new(program, ROLE.name)
        .start(&attempt)
        .map_err(|error| error.to_string())?;
    let exit = child.wait(LIMIT).map_err(|error| error.to_string())?;
    // Some calls end the process in their own way: exit, a thread without a stack.
    let words = String::from_utf8_lossy(&exit.words);
    if exit.is_trapped() == words.contains("made a system call it never needs")
        || exit.status.code().is_none()
    {
        Ok(exit.is_trapped())
    } else {
        Err(format!("{rule:?}: {exit}: {words}"))
    }
}

/// Arguments that fit the conditions; where there are none, such that the call fails.
fn allowed(conditions: &[Condition]) -> [u64; 6] {
    let mut arguments = [u64::MAX; 6];
    for condition in conditions {
        if let Some(argument) = arguments.get_mut(usize::from(condition.argument)) {
            *argument = match condition.check {
                Check::Is(value) | Check::IsBut { value, .. } => u64::from(value),
                Check::IsLong(value) => value,
                Check::Without(bits) => u64::from(!bits),
                Check::Within(bits) => u64::from(bits),
                Check::OwnPid => OWN_PID,
            };
        }
    }
    arguments
}

/// An argument that does not fit.
fn refused(check: Check) -> u64 {
    let lowest = |bits: u32| bits & bits.wrapping_neg();
    match check {
        Check::Is(value) => u64::from(value ^ 1),
        Check::IsLong(value) => value ^ 1,
        Check::Without(bits) => u64::from(lowest(bits)),
        Check::Within(bits) => u64::from(lowest(!bits)),
        Check::IsBut { value, ignored } => u64::from(value ^ lowest(!ignored)),
        // That of init.
        Check::OwnPid => 1,
    }
}
