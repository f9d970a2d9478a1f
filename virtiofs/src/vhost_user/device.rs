//! The device as vhost-user sees it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringRwLock, VringState, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

use super::Fault;
use crate::pace::Pace;
use crate::passthrough::PassthroughFs;
use crate::server::Server;

/// One queue for urgent requests, one for all others (virtio 1.2, section 5.11.2).
const QUEUES: usize = 2;

/// Number of the event that ends the worker threads; up to [`QUEUES`] they are taken.
pub(super) const STOP: u16 = QUEUES as u16 + 1;

/// Largest queue that QEMU offers for this device.
const QUEUE_SIZE: usize = 1024;

/// Answers the requests in the device's queues, all of them in one thread.
pub(super) struct Device {
    server: Server<PassthroughFs>,
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    event_idx: AtomicBool,
    /// How long to look out for the next request, and since when there is none.
    pace: Mutex<(Pace, Instant)>,
    fault: Arc<Fault>,
}

impl Device {
    /// A device in a machine with this many processors.
    pub(super) fn new(
        server: Server<PassthroughFs>,
        memory: GuestMemoryAtomic<GuestMemoryMmap>,
        processors: usize,
        fault: Arc<Fault>,
    ) -> Self {
        Self {
            server,
            memory,
            event_idx: AtomicBool::new(false),
            pace: Mutex::new((Pace::new(processors), Instant::now())),
            fault,
        }
    }
}

impl VhostUserBackend for Device {
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
        // `self.memory` is the same object.
        Ok(())
    }

    // There is no `exit_event`: vhost-user-backend 0.24.0 never closes that one's descriptor.

    fn handle_event(
        &self,
        event: u16,
        _events: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        if event == STOP {
            return Err(io::Error::other("the connection has ended"));
        }
        if self.fault.is_stopped() {
            return Ok(());
        }
        if let Err(error) = self.serve(vrings) {
            // What is in the ring cannot be trusted any more.
            self.fault.set(error);
        }
        Ok(())
    }
}

/// Whether the driver has set the queue up, and wants it to be served.
fn is_live(state: &VringState) -> bool {
    state.is_enabled() && state.get_queue().ready()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Device {
    /// Serves all queues, in turns, until there is nothing to do for a while.
    fn serve(&self, vrings: &[VringRwLock]) -> Result<(), String> {
        if !self.event_idx.load(Ordering::Relaxed) {
            return self.drain(vrings);
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let (pace, idle_since) = &mut *pace;
        pace.woken_after(idle_since.elapsed());
        loop {
            self.notifications(vrings, false)?;
            loop {
                self.drain(vrings)?;
                *idle_since = Instant::now();
                if pace.window().is_zero() {
                    break;
                }
                let found = self.watch(vrings, *idle_since, pace.window())?;
                pace.watched(found);
                if !found {
                    break;
                }
            }
            // Something may have come between the last look and the enabling.
            if !self.notifications(vrings, true)? || self.fault.is_stopped() {
                return Ok(());
            }
        }
    }

    /// Lets the driver tell of new requests or not; whether there are any already.
    fn notifications(&self, vrings: &[VringRwLock], enable: bool) -> Result<bool, String> {
        let memory = self.memory.memory();
        let mut pending = false;
        for vring in vrings {
            let mut state = vring.get_mut();
            if !is_live(&state) {
                continue;
            }
            let queue = state.get_queue_mut();
            if enable {
                pending |= queue.enable_notification(&*memory).map_err(text)?;
            } else {
                queue.disable_notification(&*memory).map_err(text)?;
            }
        }
        Ok(pending)
    }

    /// Looks out for a request until the time is up; whether there is one.
    fn watch(
        &self,
        vrings: &[VringRwLock],
        start: Instant,
        time: Duration,
    ) -> Result<bool, String> {
        let memory = self.memory.memory();
        loop {
            // Reading the clock takes about as long as a few looks.
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

    /// Answers every request that is in the queues. A busy queue does not keep the others
    /// waiting.
    fn drain(&self, vrings: &[VringRwLock]) -> Result<(), String> {
        loop {
            let mut idle = true;
            for vring in vrings {
                idle &= !self.answer_one(vring)?;
            }
            if idle || self.fault.is_stopped() {
                return Ok(());
            }
        }
    }

    /// Answers one request; whether there was one.
    fn answer_one(&self, vring: &VringRwLock) -> Result<bool, String> {
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
