//! Threads that run CPUs, and how they are stopped.
//!
//! A CPU's thread sleeps in KVM_RUN for as long as its guest likes. To get it out, it is sent
//! a signal whose handler sets `immediate_exit` of that thread's CPU: whether the signal comes
//! before, in or after KVM_RUN, the next or present one returns.

use std::cell::Cell;
use std::fmt::Write as _;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_bindings::KVM_EXIT_INTERNAL_ERROR;
use kvm_ioctls::{VcpuExit, VcpuFd};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::{Buses, Ending, Stopped, VcpuError, Vcpus};
use crate::bus::Effect;
use crate::kvm::Vm;

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
struct Kickable;

impl Kickable {
    /// The result must not outlive `fd`.
    fn new(fd: &mut VcpuFd) -> Kickable {
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

fn handle_kicks() -> Result<(), VcpuError> {
    register_signal_handler(kick_signal(), kicked).map_err(|error| VcpuError::Thread(error.into()))
}

/// Threads of all CPUs but the first. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Others {
    threads: Vec<JoinHandle<()>>,
    ending: Ending,
}

impl Drop for Others {
    fn drop(&mut self) {
        self.ending.end(Stopped::Killed);
        for thread in &self.threads {
            // SAFETY: the thread has not been joined, so its handle is valid even if it has ended.
            unsafe { kick(thread.as_pthread_t()) };
        }
        for thread in self.threads.drain(..) {
            // A panic there has been printed and has ended the guest (`Guard`).
            let _ = thread.join();
        }
    }
}

impl Vcpus {
    /// Starts all but the first, which the caller shall run.
    pub(super) fn start(
        self,
        buses: &Arc<Buses>,
        ending: &Ending,
    ) -> Result<(Runner, Others), VcpuError> {
        handle_kicks()?;
        let vm = &self.vm;
        let mut runners = self.fds.into_iter().enumerate().map(|(id, fd)| Runner {
            id,
            fd,
            buses: Arc::clone(buses),
            ending: ending.clone(),
            _vm: Arc::clone(vm),
        });
        let first = runners.next().ok_or(VcpuError::Count(0))?;
        let mut others = Others {
            threads: Vec::new(),
            ending: ending.clone(),
        };
        for runner in runners {
            let thread = std::thread::Builder::new()
                .name(format!("vcpu{}", runner.id))
                .spawn(move || runner.main())
                .map_err(VcpuError::Thread)?;
            others.threads.push(thread);
        }
        Ok((first, others))
    }
}

/// The first thing that leaves a CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstExit {
    /// A write to this port.
    Out(u16),
    /// Something else, in words.
    Other(String),
    /// Nothing within the limit.
    None,
}

impl Vcpus {
    /// Runs the first CPU from `entry` (guest address) up to the first exit that concerns us, or for
    /// as long as `limit`.
    ///
    /// # Errors
    /// If the host does not allow a thread.
    pub fn first_exit(mut self, entry: u64, limit: Duration) -> Result<FirstExit, VcpuError> {
        handle_kicks()?;
        self.enter_at(entry)?;
        let mut fd = self.fds.remove(0);
        let vm = Arc::clone(&self.vm);
        let ending = Ending::new();
        let ended = ending.clone();
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name(String::from("vcpu0"))
            .spawn(move || {
                let _vm = vm;
                let _kickable = Kickable::new(&mut fd);
                while !ended.has_come() {
                    let exit = match fd.run() {
                        Ok(VcpuExit::IoOut(port, _)) => FirstExit::Out(port),
                        Ok(VcpuExit::Shutdown) => FirstExit::Other(String::from("triple fault")),
                        Ok(exit) => FirstExit::Other(format!("{exit:?}")),
                        Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                            continue;
                        }
                        Err(error) => FirstExit::Other(error.to_string()),
                    };
                    let _ = sender.send(exit);
                    return;
                }
            })
            .map_err(VcpuError::Thread)?;
        let exit = receiver.recv_timeout(limit).unwrap_or(FirstExit::None);
        drop(Others {
            threads: vec![thread],
            ending,
        });
        Ok(exit)
    }
}

/// Runs one CPU.
pub(super) struct Runner {
    id: usize,
    fd: VcpuFd,
    buses: Arc<Buses>,
    ending: Ending,
    /// Keeps the memory that the CPU uses.
    _vm: Arc<Vm>,
}

/// Ends the guest if a thread panics, so that the others do not wait for it for ever.
struct Guard<'a>(&'a Ending);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = String::from("a CPU's thread panicked");
            self.0.end(Stopped::Failed(text));
        }
    }
}

impl Runner {
    fn main(mut self) {
        let ending = self.ending.clone();
        let _guard = Guard(&ending);
        if let Some(reason) = self.run() {
            ending.end(reason);
        }
    }

    /// Runs the CPU until the guest ends (the reason) or we are told to stop (nothing).
    pub(super) fn run(&mut self) -> Option<Stopped> {
        let _kickable = Kickable::new(&mut self.fd);
        while !self.ending.has_come() {
            let effect = match self.fd.run() {
                Ok(VcpuExit::IoOut(port, data)) => self.buses.pio.write(u64::from(port), data),
                Ok(VcpuExit::IoIn(port, data)) => {
                    self.buses.pio.read(u64::from(port), data);
                    Effect::None
                }
                Ok(VcpuExit::MmioWrite(address, data)) => self.buses.mmio.write(address, data),
                Ok(VcpuExit::MmioRead(address, data)) => {
                    self.buses.mmio.read(address, data);
                    Effect::None
                }
                Ok(VcpuExit::Shutdown) => return Some(Stopped::TripleFault(self.whereabouts())),
                Ok(VcpuExit::Intr) => Effect::None,
                Ok(exit) => {
                    let exit = format!("{exit:?}");
                    return Some(Stopped::Failed(self.explain(&exit)));
                }
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => Effect::None,
                Err(error) => {
                    return Some(Stopped::Failed(format!(
                        "KVM cannot run the guest: {error}"
                    )));
                }
            };
            match effect {
                Effect::None => {}
                Effect::PowerOff => return Some(Stopped::PowerOff),
                Effect::Reset => return Some(Stopped::Reset),
            }
        }
        None
    }

    /// Which CPU this is and what it was about, for whoever has to find out why.
    fn whereabouts(&mut self) -> String {
        let mut text = format!("CPU {}", self.id);
        if let (Ok(regs), Ok(sregs)) = (self.fd.get_regs(), self.fd.get_sregs()) {
            let _ = write!(
                text,
                " at {:#x}: rsp {:#x}, rflags {:#x}, cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, cr4 {:#x}, \
                 cs {:#x}, gs {:#x}, idt {:#x}",
                regs.rip,
                regs.rsp,
                regs.rflags,
                sregs.cr0,
                sregs.cr2,
                sregs.cr3,
                sregs.cr4,
                sregs.cs.selector,
                sregs.gs.base,
                sregs.idt.base,
            );
        }
        if let Ok(events) = self.fd.get_vcpu_events() {
            let _ = write!(
                text,
                ", exception {} (error {:#x}, injected {}), interrupt {} (injected {})",
                events.exception.nr,
                events.exception.error_code,
                events.exception.injected,
                events.interrupt.nr,
                events.interrupt.injected,
            );
        }
        text
    }

    /// Words for an exit that nothing can be done about.
    fn explain(&mut self, exit: &str) -> String {
        let at = match self.fd.get_regs() {
            Ok(regs) => format!(" at guest address {:#x}", regs.rip),
            Err(_) => String::new(),
        };
        let run = self.fd.get_kvm_run();
        if run.exit_reason == KVM_EXIT_INTERNAL_ERROR {
            // SAFETY: the exit reason says that this member of the union is the valid one.
            let internal = unsafe { run.__bindgen_anon_1.internal };
            let cause = match internal.suberror {
                1 => String::from("it cannot emulate an instruction"),
                2 => String::from("exceptions at the same time"),
                3 => String::from("an exit while an event was delivered"),
                other => format!("error {other}"),
            };
            return format!("KVM gave up on the guest: {cause}{at}");
        }
        format!("KVM stopped the guest: {exit}{at}")
    }
}
