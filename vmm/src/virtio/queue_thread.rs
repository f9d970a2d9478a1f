//! A thread that serves one queue, for devices whose queues do not wait for each other.

use std::io;
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::device::Context;
use super::fault::Fault;
use super::kind::Kind;
use super::queue::ActiveQueue;
use super::stop_flag::StopFlag;
use super::worker::{PanicNotifier, event};
use crate::threads::Role;

const STOP: u64 = 0;
const QUEUE: u64 = 1;

/// A queue at work on a thread of its own. Dropping it ends the thread.
#[derive(Debug)]
pub struct QueueThread {
    /// For a thread that works, and for one that waits.
    flag: StopFlag,
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl QueueThread {
    /// Lets `serve` look at `queue` now and whenever the driver notifies, on a thread of a device of
    /// this kind. A fault leaves the device, which has been activated with `context`, in need of a
    /// reset.
    ///
    /// # Errors
    /// If the host has no room for a thread or its descriptors.
    pub fn start(
        kind: Kind,
        mut queue: ActiveQueue,
        context: &Context,
        mut serve: impl FnMut(&mut ActiveQueue) -> Result<(), Fault> + Send + 'static,
    ) -> io::Result<QueueThread> {
        let flag = queue.stop().clone();
        let stop = event()?;
        let epoll = Epoll::new()?;
        for (event, token) in [(&stop, STOP), (queue.event(), QUEUE)] {
            let watched = EpollEvent::new(EventSet::IN, token);
            epoll.ctl(ControlOperation::Add, event.as_raw_fd(), watched)?;
        }
        let (interrupt, failures) = (context.interrupt.clone(), context.failures.clone());
        let threads = context.threads.clone();
        let name = kind.name();
        let thread = std::thread::Builder::new()
            .name(String::from(name))
            .spawn(move || {
                let _guard = PanicNotifier {
                    interrupt: interrupt.clone(),
                    name: String::from(name),
                    failures: failures.clone(),
                };
                // What came before we listened has no notification.
                let mut served = threads
                    .enter(Role::Device(kind), name)
                    .map_err(|error| Fault::Host(error.to_string()))
                    .and_then(|()| serve(&mut queue));
                while served.is_ok() {
                    match wait(&epoll) {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(error) => {
                            served = Err(Fault::Host(error.to_string()));
                            break;
                        }
                    }
                    // It may have been read already.
                    let _ = queue.event().read();
                    served = serve(&mut queue);
                }
                if let Err(fault) = served {
                    log::warn!("{name}: {fault}");
                    interrupt.needs_reset();
                    failures.report_if_hosts(name, &fault);
                }
            })?;
        Ok(QueueThread {
            flag,
            stop,
            thread: Some(thread),
        })
    }
}

/// Waits for the driver; false once we are told to stop.
fn wait(epoll: &Epoll) -> io::Result<bool> {
    let mut events = [EpollEvent::default(); 2];
    loop {
        match epoll.wait(-1, &mut events) {
            Ok(count) => {
                let stop = |event: &EpollEvent| event.data() == STOP;
                return Ok(!events.iter().take(count).any(stop));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Drop for QueueThread {
    fn drop(&mut self) {
        self.flag.raise();
        if let Err(error) = self.stop.write(1) {
            log::error!("cannot stop a queue's thread: {error}");
            return;
        }
        if let Some(thread) = self.thread.take() {
            // A panic has been reported, and the device needs a reset.
            let _ = thread.join();
        }
    }
}
