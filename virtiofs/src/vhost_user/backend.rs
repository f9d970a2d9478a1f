//! The device behind the vhost-user protocol: requests from queues to the FUSE server.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boxbuild_jail::seccomp::FilterError;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringRwLock, VringState, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::fault::Fault;
use super::filters::Filters;
use super::poll_window::PollWindow;
use crate::passthrough::PassthroughFs;
use crate::server::Server;

/// One queue for urgent requests, one for all others (virtio 1.2, section 5.11.2).
const QUEUES: usize = 2;

/// Number of the queue for urgent requests.
const URGENT: usize = 0;

/// Number of the event that stops the queue worker. The queues have the numbers below, and
/// vhost-user-backend has [`QUEUES`] itself.
pub(super) const STOP: u16 = QUEUES as u16 + 1;

/// Largest queue that QEMU offers for this device.
const QUEUE_SIZE: usize = 1024;

/// Serves all queues of the device in one thread.
pub(super) struct Backend {
    server: Server<PassthroughFs>,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    event_idx: AtomicBool,
    /// How long to poll for the next request, and when the last one was done.
    poll: Mutex<(PollWindow, Instant)>,
    filters: Option<Filters>,
    fault: Arc<Fault>,
}

impl Backend {
    /// Creates the device for a machine with this many processors.
    pub(super) fn new(
        server: Server<PassthroughFs>,
        memory: GuestMemoryAtomic<GuestMemoryMmap>,
        processors: usize,
        filters: Option<Filters>,
        fault: Arc<Fault>,
    ) -> Self {
        Self {
            server,
            memory,
            event_idx: AtomicBool::new(false),
            poll: Mutex::new((PollWindow::new(processors), Instant::now())),
            filters,
            fault,
        }
    }

    /// Has the calling thread [narrow](Filters) its filter, the first time; if that fails, nothing
    /// is served.
    fn narrow(&self, install: fn(&Filters) -> Result<(), FilterError>) {
        thread_local! {
            static NARROWED: Cell<bool> = const { Cell::new(false) };
        }
        if NARROWED.replace(true) {
            return;
        }
        if let Some(Err(error)) = self.filters.as_ref().map(install) {
            self.fault.set(error.to_string());
        }
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        (1 << VIRTIO_F_VERSION_1)
            | (1 << VIRTIO_RING_F_INDIRECT_DESC)
            | (1 << VIRTIO_RING_F_EVENT_IDX)
            | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&self, enabled: bool) {
        self.event_idx.store(enabled, Ordering::Relaxed);
    }

    fn update_memory(&self, _memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        // `self.memory` is the same object. This is the first message of any driver that has
        // requests to serve.
        self.narrow(Filters::install_protocol);
        Ok(())
    }

    // No `exit_event`: vhost-user-backend 0.24.0 never closes its descriptor.

    fn handle_event(
        &self,
        event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        self.narrow(Filters::install_queues);
        if event == STOP {
            return Err(io::Error::other("the connection has ended"));
        }
        if self.fault.is_stopped() {
            return Ok(());
        }
        if let Err(error) = self.serve(vrings) {
            // The queues cannot be trusted any more.
            self.fault.set(error);
        }
        Ok(())
    }
}

/// Whether the driver has set the queue up and enabled it.
fn is_live(state: &VringState) -> bool {
    state.is_enabled() && state.get_queue().ready()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Backend {
    /// Serves all queues in turns until there was nothing to do for the poll window.
    fn serve(&self, vrings: &[VringRwLock]) -> Result<(), String> {
        if !self.event_idx.load(Ordering::Relaxed) {
            return self.drain(vrings);
        }
        let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        let (window, idle_since) = &mut *poll;
        window.woken_after(idle_since.elapsed());
        loop {
            self.set_notifications(vrings, Notifications::Off)?;
            loop {
                self.drain(vrings)?;
                *idle_since = Instant::now();
                if window.get().is_zero() {
                    break;
                }
                let hit = self.poll_for(vrings, *idle_since, window.get())?;
                window.polled(hit);
                if !hit {
                    break;
                }
            }
            // A request may have come after the last poll and before the notifications were on.
            let pending = self.set_notifications(vrings, Notifications::On)?;
            if !pending || self.fault.is_stopped() {
                return Ok(());
            }
        }
    }

    /// Turns the driver's notifications of new requests on or off. Returns whether there are
    /// requests already, if on.
    fn set_notifications(
        &self,
        vrings: &[VringRwLock],
        notifications: Notifications,
    ) -> Result<bool, String> {
        let memory = self.memory.memory();
        let mut pending = false;
        for vring in vrings {
            let mut state = vring.get_mut();
            if !is_live(&state) {
                continue;
            }
            let queue = state.get_queue_mut();
            match notifications {
                Notifications::On => {
                    pending |= queue.enable_notification(&*memory).map_err(text)?;
                }
                Notifications::Off => queue.disable_notification(&*memory).map_err(text)?,
            }
        }
        Ok(pending)
    }

    /// Polls the queues for `time` from `start` on; returns whether there is a request.
    fn poll_for(
        &self,
        vrings: &[VringRwLock],
        start: Instant,
        time: Duration,
    ) -> Result<bool, String> {
        let memory = self.memory.memory();
        loop {
            // Reading the clock takes about as long as a few polls.
            for _ in 0..4 {
                for vring in vrings {
                    let state = vring.get_ref();
                    if !is_live(&state) {
                        continue;
                    }
                    let queue = state.get_queue();
                    let index = queue.avail_idx(&*memory, Ordering::Acquire).map_err(text)?;
                    if index.0 != queue.next_avail() {
                        return Ok(true);
                    }
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= time || self.fault.is_stopped() {
                return Ok(false);
            }
        }
    }

    /// Serves every request in the queues, in turns: the urgent ones before each other one, since the
    /// guest gives a file back with one of them and then removes its folder, which some file systems of
    /// the host (NFS) allow only when the file is closed here. As many as the queue holds: a guest that
    /// always has one more gets its other requests served all the same.
    fn drain(&self, vrings: &[VringRwLock]) -> Result<(), String> {
        loop {
            let mut idle = true;
            for (queue, vring) in vrings.iter().enumerate() {
                let most = if queue == URGENT { QUEUE_SIZE } else { 1 };
                for _ in 0..most {
                    if self.fault.is_stopped() {
                        return Ok(());
                    }
                    if !self.serve_one(vring)? {
                        break;
                    }
                    idle = false;
                }
            }
            if idle {
                return Ok(());
            }
        }
    }

    /// Serves the next request of a queue; returns whether there was one.
    fn serve_one(&self, vring: &VringRwLock) -> Result<bool, String> {
        let memory = self.memory.memory();
        let chain = {
            let mut state = vring.get_mut();
            if !is_live(&state) {
                return Ok(false);
            }
            let mut chains = state.get_queue_mut().iter(&*memory).map_err(text)?;
            chains.next()
        };
        let Some(chain) = chain else {
            return Ok(false);
        };
        let head = chain.head_index();
        let written = self.server.handle(&*memory, chain).map_err(text)?;
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        queue.add_used(&*memory, head, written).map_err(text)?;
        if queue.needs_notification(&*memory).map_err(text)? {
            state.signal_used_queue().map_err(text)?;
        }
        Ok(true)
    }
}

/// Whether the driver shall tell the device of new requests.
#[derive(Debug, Clone, Copy)]
enum Notifications {
    On,
    Off,
}
