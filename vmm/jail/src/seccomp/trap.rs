//! The signal that a filter sends for a call that it does not allow (SIGSYS), and its words.

use std::cell::Cell;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::error::FilterError;

/// Exit code of a process that a filter ended: 128 and the number of the signal, as shells have it.
pub const TRAPPED: i32 = 128 + libc::SIGSYS;

/// Longest name of a thread, as the kernel has it (prctl(2), PR_SET_NAME).
const NAME: usize = 15;

thread_local! {
    /// What the message calls this thread. A plain cell without initialiser and destructor: safe in
    /// a handler.
    static THREAD: Cell<[u8; NAME]> = const { Cell::new([0; NAME]) };
}

/// Names the calling thread in the message.
pub(super) fn name_thread(name: &str) {
    let mut bytes = [0; NAME];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    THREAD.set(bytes);
}

/// Lets a trap end the process with a message.
pub(crate) fn handle() -> Result<(), FilterError> {
    let action = SigAction::new(
        SigHandler::SigAction(trapped),
        SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK,
        SigSet::all(),
    );
    // SAFETY: the handler makes two system calls and touches its own stack and a plain
    // thread-local cell only, which is async-signal-safe.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map_err(FilterError::Handle)?;
    Ok(())
}

/// The fields of `siginfo_t` for SIGSYS (sigaction(2); asm-generic/siginfo.h, `_sigsys`).
#[repr(C)]
struct CallInfo {
    signal: libc::c_int,
    error: libc::c_int,
    code: libc::c_int,
    _padding: libc::c_int,
    address: *const libc::c_void,
    call: libc::c_int,
    arch: libc::c_uint,
}

extern "C" fn trapped(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a valid structure, whose fields for this
    // signal are these; it is larger than they are.
    let call = unsafe { (*info.cast::<CallInfo>()).call };
    let mut message = Text::default();
    message.push(b"the thread ");
    let name = THREAD.get();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
    match name.get(..end) {
        Some(name) if !name.is_empty() => message.push(name),
        _ => message.push(b"that has just started"),
    }
    message.push(b" made a system call it never needs: ");
    message.number(call.unsigned_abs());
    message.push(b"\n");
    // SAFETY: the buffer is valid for its length. The second call does not return.
    unsafe {
        libc::write(
            libc::STDERR_FILENO,
            message.bytes.as_ptr().cast(),
            message.len,
        );
        libc::syscall(libc::SYS_exit_group, TRAPPED);
    }
}

/// A text on the stack.
struct Text {
    bytes: [u8; 128],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            bytes: [0; 128],
            len: 0,
        }
    }
}

impl Text {
    /// Appends as much as there is room for.
    fn push(&mut self, text: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.len);
        for (to, from) in room.zip(text) {
            *to = *from;
            self.len += 1;
        }
    }

    fn number(&mut self, number: u32) {
        let mut digits = [0; 10];
        let mut rest = number;
        let mut count = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            count += 1;
            if rest == 0 {
                break;
            }
        }
        let start = digits.len() - count;
        self.push(digits.get(start..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_allocation() {
        for number in [0, 7, 41, 435, u32::MAX] {
            let mut text = Text::default();
            text.push(b"call ");
            text.number(number);
            let written = String::from_utf8_lossy(&text.bytes[..text.len]).into_owned();
            assert_eq!(written, format!("call {number}"));
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut() {
        let mut text = Text::default();
        text.push(&[b'a'; 200]);
        assert_eq!(text.len, 128);
    }
}
