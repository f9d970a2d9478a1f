//! The thread that serves an active device.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::{Context, Device};
use super::failure_sink::FailureSink;
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::stop_flag::StopFlag;
use crate::threads::Role;

/// What an event means: the first queue's number follows.
const STOP: u64 = 0;
const WAKEUP: u64 = 1;
const QUEUES: u64 = 2;

/// A device at work.
#[derive(Debug)]
pub(super) struct Worker {
    /// For a thread that works, and for one that waits.
    flag: StopFlag,
    stop: EventFd,
    thread: Option<JoinHandle<Box<dyn Device>>>,
}

impl Worker {
    /// Starts the thread of `device`. If that fails, the device is dropped.
    pub(super) fn start(device: Box<dyn Device>, context: Context) -> io::Result<Worker> {
        let stop = event()?;
        let epoll = Epoll::new()?;
        let wakeup = device.wakeup();
        let flag = context.stop.clone();
        watch(&epoll, &stop, STOP)?;
        if let Some(wakeup) = &wakeup {
            watch(&epoll, wakeup, WAKEUP)?;
        }
        let thread = std::thread::Builder::new()
            .name(String::from(device.kind().name()))
            .spawn(move || {
                let _guard = PanicNotifier {
                    interrupt: context.interrupt.clone(),
                    name: device.kind().name().to_owned(),
                    failures: context.failures.clone(),
                };
                let mut serving = Serving {
                    device,
                    context,
                    wakeup,
                    shared_queue: None,
                };
                serving.run(&epoll);
                serving.device.deactivate();
                serving.device
            })?;
        Ok(Worker {
            flag,
            stop,
            thread: Some(thread),
        })
    }

    /// Stops the thread and returns the device; `None` if its thread panicked.
    pub(super) fn stop(mut self) -> Option<Box<dyn Device>> {
        self.join()
    }

    fn join(&mut self) -> Option<Box<dyn Device>> {
        let thread = self.thread.take()?;
        self.flag.raise();
        if let Err(error) = self.stop.write(1) {
            log::error!("cannot stop a device's thread: {error}");
        }
        thread.join().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.join();
    }
}

fn watch(epoll: &Epoll, event: &dyn AsRawFd, token: u64) -> io::Result<()> {
    epoll.ctl(
        ControlOperation::Add,
        event.as_raw_fd(),
        EpollEvent::new(EventSet::IN, token),
    )
}

/// An event for signalling between threads.
pub(super) fn event() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

struct Serving {
    device: Box<dyn Device>,
    context: Context,
    /// Watched as long as the device is served.
    wakeup: Option<OwnedFd>,
    /// See [`Device::shared_queue`].
    shared_queue: Option<(usize, EventFd)>,
}

/// A thread that panics leaves a device that needs a reset, not one that hangs, and ends the
/// machine: a guest without its disk would not get far, and might wait for ever.
pub(super) struct PanicNotifier {
    pub(super) interrupt: Interrupt,
    pub(super) name: String,
    pub(super) failures: FailureSink,
}

impl Drop for PanicNotifier {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failures
                .report(format!("the thread {} panicked", self.name));
            self.interrupt.needs_reset();
        }
    }
}

impl Serving {
    /// Serves until told to stop.
    fn run(&mut self, epoll: &Epoll) {
        let served = self.begin(epoll).and_then(|()| {
            while let Some(tokens) = self.wait(epoll)? {
                for token in tokens {
                    self.serve(token)?;
                }
            }
            self.device.stopping(&mut self.context)
        });
        if let Err(fault) = served {
            let name = self.device.kind().name();
            log::warn!("{name}: {fault}");
            self.context.interrupt.needs_reset();
            self.context.failures.report_if_hosts(name, &fault);
            // A broken device does nothing any more, whatever happens outside.
            if let Some(wakeup) = &self.wakeup {
                let nothing = EpollEvent::default();
                let _ = epoll.ctl(ControlOperation::Delete, wakeup.as_raw_fd(), nothing);
            }
            while let Ok(Some(_)) = self.wait(epoll) {}
        }
    }

    /// What has been signalled; nothing once we are told to stop.
    fn wait(&self, epoll: &Epoll) -> Result<Option<Vec<u64>>, Fault> {
        let mut events = [EpollEvent::default(); 16];
        let count = loop {
            match epoll.wait(-1, &mut events) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Host(error.to_string())),
            }
        };
        let tokens: Vec<u64> = events.iter().take(count).map(EpollEvent::data).collect();
        if tokens.contains(&STOP) {
            return Ok(None);
        }
        for token in &tokens {
            self.clear(*token);
        }
        Ok(Some(tokens))
    }

    /// Activates the device, locks this thread to the system calls of its kind, listens to the
    /// queues that the device has left to us, and looks at each once: what came before has no
    /// notification.
    fn begin(&mut self, epoll: &Epoll) -> Result<(), Fault> {
        let activated = self.device.activate(&mut self.context);
        self.shared_queue = self.device.shared_queue();
        let kind = self.device.kind();
        self.context
            .threads
            .enter(Role::Device(kind), kind.name())
            .map_err(|error| Fault::Host(error.to_string()))?;
        activated?;
        for (index, queue) in (0_u64..).zip(&self.context.queues) {
            if let Some(queue) = queue {
                watch(epoll, queue.event(), QUEUES + index)
                    .map_err(|error| Fault::Host(error.to_string()))?;
            }
        }
        let shared = self.shared_queue.as_ref().map(|(index, event)| {
            watch(epoll, event, QUEUES + *index as u64)
                .map_err(|error| Fault::Host(error.to_string()))
                .map(|()| *index)
        });
        if let Some(index) = shared.transpose()? {
            self.device.notified(index, &mut self.context)?;
        }
        for index in 0..self.context.queues.len() {
            if self.context.queues.get(index).is_some_and(Option::is_some) {
                self.device.notified(index, &mut self.context)?;
            }
        }
        Ok(())
    }

    fn clear(&self, token: u64) {
        let event = self
            .queue(token)
            .and_then(|index| match &self.shared_queue {
                Some((shared, event)) if *shared == index => Some(event),
                _ => Some(self.context.queues.get(index)?.as_ref()?.event()),
            });
        // It may have been read already.
        let _ = event.map(EventFd::read);
    }

    fn queue(&self, token: u64) -> Option<usize> {
        usize::try_from(token.checked_sub(QUEUES)?).ok()
    }

    fn serve(&mut self, token: u64) -> Result<(), Fault> {
        match (token, self.queue(token)) {
            (WAKEUP, _) => self.device.woken(&mut self.context),
            (_, Some(index)) => self.device.notified(index, &mut self.context),
            _ => Ok(()),
        }
    }
}
