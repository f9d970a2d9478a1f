//! How a thread is called out of KVM_RUN.
//!
//! A CPU's thread sleeps in KVM_RUN for as long as its guest likes. To get it out, it is sent
//! a signal whose handler sets `immediate_exit` of that thread's CPU: whether the signal comes
//! before, in or after KVM_RUN, the next or present one returns.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::error::VcpuError;

thread_local! {
    /// `kvm_run.immediate_exit` of the CPU that this thread runs, if it does.
    static IMMEDIATE_EXIT: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
}

/// The signal that interrupts KVM_RUN.
fn kick_signal() -> libc::c_int {
    SIGRTMIN()
}

extern "C" fn kicked(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // A plain thread-local cell without initialiser and destructor: safe in a handler.
    let byte = IMMEDIATE_EXIT.get();
    if !byte.is_null() {
        // SAFETY: it is set only while the CPU exists, by the thread that we interrupt.
        unsafe { &*byte }.store(1, Ordering::Relaxed);
    }
}

/// While it lives, the signal reaches the CPU of this thread.
pub(super) struct Kickable;

impl Kickable {
    /// The result must not outlive `fd`.
    pub(super) fn new(fd: &mut VcpuFd) -> Kickable {
        let byte = &raw mut fd.get_kvm_run().immediate_exit;
        IMMEDIATE_EXIT.set(byte.cast::<AtomicU8>().cast_const());
        Kickable
    }
}

impl Drop for Kickable {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null());
    }
}

/// Interrupts KVM_RUN of the CPU that `thread` runs, if it does.
///
/// # Safety
/// The thread must not have been joined, or be about to end by itself.
pub(super) unsafe fn kick(thread: libc::pthread_t) {
    // SAFETY: the caller knows that the thread is there; the signal has a handler.
    unsafe { libc::pthread_kill(thread, kick_signal()) };
}

/// Handles the signal in this process from now on.
///
/// # Errors
/// If the host does not allow it.
pub(super) fn handle_kicks() -> Result<(), VcpuError> {
    register_signal_handler(kick_signal(), kicked).map_err(|error| VcpuError::Thread(error.into()))
}
