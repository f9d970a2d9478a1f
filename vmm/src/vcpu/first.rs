//! The thread of the first CPU, from before the CPU exists to after the machine's end.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::run::{Others, Runner};
use super::{Buses, Ending, Stopped, VcpuError, Vcpus};

/// Gets the reason of the end when no CPU runs any more.
type Finish = Box<dyn FnOnce(Stopped) + Send>;

/// What the thread runs.
struct Machine {
    vcpus: Vcpus,
    buses: Arc<Buses>,
    finish: Finish,
}

/// The thread of the first CPU, which has no CPU yet. Dropping it waits for its work, and ends it.
pub struct FirstThread<E> {
    machine: Option<Sender<Machine>>,
    started: Receiver<Result<(), E>>,
    thread: Option<JoinHandle<()>>,
    ending: Ending,
}

impl<E> fmt::Debug for FirstThread<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstThread")
    }
}

impl<E: From<VcpuError> + Send + 'static> FirstThread<E> {
    /// A thread that begins with `load`, which finds out where the first CPU starts (guest
    /// address).
    ///
    /// # Errors
    /// If the host has no room for a thread.
    pub fn spawn(
        ending: &Ending,
        load: impl FnOnce() -> Result<u64, E> + Send + 'static,
    ) -> io::Result<FirstThread<E>> {
        let (machine, receiver) = channel();
        let (sender, started) = channel();
        let end = ending.clone();
        let thread = std::thread::Builder::new()
            .name(String::from("vcpu0"))
            .spawn(move || main(load, &receiver, &sender, &end))?;
        Ok(FirstThread {
            machine: Some(machine),
            started,
            thread: Some(thread),
            ending: ending.clone(),
        })
    }

    /// Runs all CPUs, the first one on this thread, until the end comes; then `finish` is called
    /// there.
    ///
    /// # Errors
    /// If `load` failed, or the CPUs cannot be started. Nothing runs then.
    pub fn run(
        mut self,
        vcpus: Vcpus,
        buses: Arc<Buses>,
        finish: impl FnOnce(Stopped) + Send + 'static,
    ) -> Result<RunningVcpus, E> {
        let machine = Machine {
            vcpus,
            buses,
            finish: Box::new(finish),
        };
        if let Some(sender) = self.machine.take() {
            // If the thread has gone, it has said why.
            let _ = sender.send(machine);
        }
        match self.started.recv() {
            Ok(Ok(())) => Ok(RunningVcpus {
                thread: self.thread.take(),
                ending: self.ending.clone(),
            }),
            Ok(Err(error)) => Err(error),
            // It panicked: so do we.
            Err(_) => resume_unwind(self.join().unwrap_or(Box::new("the first CPU is gone"))),
        }
    }
}

impl<E> FirstThread<E> {
    /// Waits for the thread's end; returns what it panicked with.
    fn join(&mut self) -> Option<Box<dyn Any + Send>> {
        self.thread.take()?.join().err()
    }
}

impl<E> Drop for FirstThread<E> {
    fn drop(&mut self) {
        self.machine = None;
        self.join();
    }
}

fn main<E: From<VcpuError>>(
    load: impl FnOnce() -> Result<u64, E>,
    machine: &Receiver<Machine>,
    started: &Sender<Result<(), E>>,
    ending: &Ending,
) {
    let entry = load();
    // Without a machine there is nobody to tell.
    let Ok(machine) = machine.recv() else { return };
    let running = entry.and_then(|entry| {
        machine.vcpus.enter_at(entry)?;
        Ok(machine.vcpus.start(&machine.buses, ending)?)
    });
    let (runner, others) = match running {
        Ok(running) => running,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    run(runner, others, ending, machine.finish);
}

fn run(mut first: Runner, others: Others, ending: &Ending, finish: Finish) {
    let listening = ending.interrupts_me();
    match catch_unwind(AssertUnwindSafe(|| first.run())) {
        Ok(Some(reason)) => ending.end(reason),
        // We were told to stop.
        Ok(None) => {}
        Err(_) => ending.end(Stopped::Failed(String::from("a CPU's thread panicked"))),
    }
    drop(listening);
    drop(others);
    drop(first);
    finish(ending.reason().unwrap_or(Stopped::Killed));
}

/// CPUs that run. Dropping it stops them.
#[derive(Debug)]
pub struct RunningVcpus {
    thread: Option<JoinHandle<()>>,
    ending: Ending,
}

impl RunningVcpus {
    /// Ends the guest.
    pub fn ending(&self) -> &Ending {
        &self.ending
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
        self.ending.end(Stopped::Killed);
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
        let first = FirstThread::<VcpuError>::spawn(&Ending::new(), move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            seen.store(true, Ordering::SeqCst);
            Err(VcpuError::Count(7))
        });
        drop(first.unwrap());
        assert!(done.load(Ordering::SeqCst));
    }

    #[test]
    fn a_cpu_without_an_end_is_ended_when_dropped() {
        let ending = Ending::new();
        let waits = ending.clone();
        let thread = std::thread::spawn(move || {
            while !waits.has_come() {
                std::thread::yield_now();
            }
        });
        drop(RunningVcpus {
            thread: Some(thread),
            ending: ending.clone(),
        });
        assert_eq!(ending.reason(), Some(Stopped::Killed));
    }
}
