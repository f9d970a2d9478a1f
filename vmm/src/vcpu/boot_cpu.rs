//! The thread of the boot CPU, from before the CPU exists to after the machine's end.
//!
//! It loads what shall run while another thread makes the machine, because KVM_CREATE_VM takes
//! milliseconds. In the end it takes the machine apart, so that no thread is there only to wait for
//! that.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::create::Vcpus;
use super::error::VcpuError;
use super::run::{Others, Runner};
use super::stop::{Ended, Stop};
use crate::arch::host::boot::Entry;
use crate::bus::Buses;
use crate::threads::Threads;

/// Called with how the run ended when no CPU runs any more.
type Finish = Box<dyn FnOnce(Ended) + Send>;

/// What the thread runs.
struct Machine {
    vcpus: Vcpus,
    buses: Arc<Buses>,
    threads: Threads,
    finish: Finish,
}

/// The thread of the boot CPU, which has no CPU yet. Dropping it waits for its work, and ends it.
pub struct BootCpu<E> {
    machine: Option<Sender<Machine>>,
    started: Receiver<Result<Instant, E>>,
    thread: Option<JoinHandle<()>>,
    stop: Stop,
}

impl<E> fmt::Debug for BootCpu<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootCpu")
    }
}

impl<E: From<VcpuError> + Send + 'static> BootCpu<E> {
    /// Starts a thread that begins with `load`, which finds out where the boot CPU starts.
    ///
    /// # Errors
    /// If the host has no room for a thread.
    pub fn spawn(
        stop: &Stop,
        load: impl FnOnce() -> Result<Entry, E> + Send + 'static,
    ) -> io::Result<BootCpu<E>> {
        let (machine, receiver) = channel();
        let (sender, started) = channel();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(String::from("vcpu0"))
            .spawn(move || main(load, &receiver, &sender, &stopped))?;
        Ok(BootCpu {
            machine: Some(machine),
            started,
            thread: Some(thread),
            stop: stop.clone(),
        })
    }

    /// Runs all CPUs, the boot CPU on this thread, until they are stopped; then calls `finish`
    /// there. `threads` confines them.
    ///
    /// # Errors
    /// If `load` failed, or the CPUs cannot be started. Nothing runs then.
    pub fn run(
        mut self,
        vcpus: Vcpus,
        buses: Arc<Buses>,
        threads: Threads,
        finish: impl FnOnce(Ended) + Send + 'static,
    ) -> Result<RunningVcpus, E> {
        let machine = Machine {
            vcpus,
            buses,
            threads,
            finish: Box::new(finish),
        };
        if let Some(sender) = self.machine.take() {
            // If the thread has gone, it has said why.
            let _ = sender.send(machine);
        }
        match self.started.recv() {
            Ok(Ok(first_instruction)) => Ok(RunningVcpus {
                first_instruction,
                thread: self.thread.take(),
                stop: self.stop.clone(),
            }),
            Ok(Err(error)) => Err(error),
            // It panicked: so do we.
            Err(_) => resume_unwind(self.join().unwrap_or(Box::new("the boot CPU is gone"))),
        }
    }
}

impl<E> BootCpu<E> {
    /// Waits for the thread's end; returns what it panicked with.
    fn join(&mut self) -> Option<Box<dyn Any + Send>> {
        self.thread.take()?.join().err()
    }
}

impl<E> Drop for BootCpu<E> {
    fn drop(&mut self) {
        self.machine = None;
        self.join();
    }
}

fn main<E: From<VcpuError>>(
    load: impl FnOnce() -> Result<Entry, E>,
    machine: &Receiver<Machine>,
    started: &Sender<Result<Instant, E>>,
    stop: &Stop,
) {
    let entry = load();
    // Dropped without a machine: there is nothing to run.
    let Ok(machine) = machine.recv() else { return };
    let running = entry.and_then(|entry| {
        machine.vcpus.enter_at(&entry)?;
        let running = machine
            .vcpus
            .start(&machine.buses, stop, &machine.threads)?;
        Ok(running)
    });
    let (runner, others) = match running {
        Ok(running) => running,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let begin = || {
        let _ = started.send(Ok(Instant::now()));
    };
    run(runner, others, stop, begin, machine.finish);
}

fn run(mut boot_cpu: Runner, others: Others, stop: &Stop, begin: impl FnOnce(), finish: Finish) {
    let listening = stop.interrupts_this_thread();
    let locked = boot_cpu.lock();
    begin();
    match catch_unwind(AssertUnwindSafe(|| match locked {
        Ok(()) => boot_cpu.run(),
        Err(error) => Some(Ended::Failed(error)),
    })) {
        Ok(Some(reason)) => stop.request(reason),
        // We were told to stop.
        Ok(None) => {}
        Err(_) => stop.request(Ended::Failed(String::from("a CPU's thread panicked"))),
    }
    drop(listening);
    drop(others);
    drop(boot_cpu);
    finish(stop.reason().unwrap_or(Ended::Killed));
}

/// Running CPUs. Dropping it stops them.
#[derive(Debug)]
pub struct RunningVcpus {
    first_instruction: Instant,
    thread: Option<JoinHandle<()>>,
    stop: Stop,
}

impl RunningVcpus {
    /// Returns what stops them.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Returns when the boot CPU was given to the guest.
    pub fn first_instruction(&self) -> Instant {
        self.first_instruction
    }

    /// Waits until the CPUs have stopped, and the machine is finished.
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

impl Drop for RunningVcpus {
    fn drop(&mut self) {
        self.stop.request(Ended::Killed);
        self.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_thread_without_a_machine_ends_after_its_work() {
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let boot_cpu = BootCpu::<VcpuError>::spawn(&Stop::new(), move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            seen.store(true, Ordering::SeqCst);
            Err(VcpuError::Count(7))
        });
        drop(boot_cpu.unwrap());
        assert!(done.load(Ordering::SeqCst));
    }

    #[test]
    fn a_cpu_without_an_end_is_ended_when_dropped() {
        let stop = Stop::new();
        let waits = stop.clone();
        let thread = std::thread::spawn(move || {
            while !waits.is_requested() {
                std::thread::yield_now();
            }
        });
        drop(RunningVcpus {
            first_instruction: Instant::now(),
            thread: Some(thread),
            stop: stop.clone(),
        });
        assert_eq!(stop.reason(), Some(Ended::Killed));
    }
}
