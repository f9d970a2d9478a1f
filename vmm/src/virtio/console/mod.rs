//! Console (virtio 1.2, section 5.3): hvc0 as port 0, and the named control port as port 1.

mod control;
mod port;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use self::control::Control;
use self::port::PORTS;
pub use self::port::{CONTROL_PORT, Port};
use super::chain::split_chain;
use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::kind::Kind;
use super::stop_flag::StopFlag;
use crate::guest_io::Buffers;
use crate::memory::GuestRam;

/// There are more ports than one (`VIRTIO_CONSOLE_F_MULTIPORT`).
const F_MULTIPORT: u64 = 1 << 1;
/// Queues: receive and transmit of port 0, control receive and transmit, receive and transmit
/// of port 1.
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;
const QUEUES: usize = 6;
const QUEUE_SIZE: u16 = 64;
/// Output is handed on in pieces of at most this many bytes.
const PIECE: usize = 16 << 10;
/// Output that is still handed on when the device shall stop: the last words of a guest that powers
/// itself off. Linux writes 32 KiB at once (`port_fops_write` in drivers/char/virtio_console.c).
const LAST_WORDS: usize = 1 << 20;
/// Input that waits for the guest, per port in bytes, is at most this.
const MOST_INPUT: usize = 1 << 20;

/// Where the host writes what it says to the guest. Clones write to the same guest.
#[derive(Debug, Clone)]
pub struct Input(Arc<InputState>);

#[derive(Debug)]
struct InputState {
    waiting: Mutex<[VecDeque<u8>; PORTS]>,
    event: EventFd,
}

impl Input {
    fn new() -> io::Result<Input> {
        Ok(Input(Arc::new(InputState {
            waiting: Mutex::default(),
            event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        })))
    }

    /// Queues `bytes` for `port` and returns how many were taken: not all if the guest does
    /// not read.
    pub fn send(&self, port: Port, bytes: &[u8]) -> usize {
        let taken = self.with(port, |waiting| {
            let room = MOST_INPUT.saturating_sub(waiting.len());
            let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
            waiting.extend(taken);
            taken.len()
        });
        if let Err(error) = self.0.event.write(1) {
            log::debug!("cannot wake the console: {error}");
        }
        taken
    }

    fn with<T>(&self, port: Port, work: impl FnOnce(&mut VecDeque<u8>) -> T) -> T {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let [console, control] = &mut *waiting;
        work(match port {
            Port::Console => console,
            Port::Control => control,
        })
    }
}

/// Takes the guest's output. It may block: the guest then waits.
pub type Output = Box<dyn FnMut(Port, Vec<u8>) + Send>;

/// A console device with two ports.
pub struct Console {
    output: Output,
    input: Input,
    control: Control,
    /// How much of [`LAST_WORDS`] is left.
    last_words: usize,
    config: Arc<DeviceConfig>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// Creates a console whose output goes to `output`.
    ///
    /// # Errors
    /// If the host has no event descriptor left.
    pub fn new(output: Output) -> io::Result<Console> {
        // Columns, rows (unknown), number of ports, emergency write (not offered).
        let mut config = vec![0; 12];
        config[4] = PORTS as u8;
        Ok(Console {
            output,
            input: Input::new()?,
            control: Control::default(),
            last_words: LAST_WORDS,
            config: Arc::new(DeviceConfig::new(config, 0..0)),
        })
    }

    /// Returns where input is written.
    pub fn input(&self) -> Input {
        self.input.clone()
    }

    /// Hands on what the guest has written to `port`.
    fn transmit(&mut self, port: Port, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(port.transmit()) else {
            return Ok(());
        };
        let (ram, stop) = (&context.ram, &context.stop);
        queue.drain(ram, &context.interrupt, |chain| {
            let (readable, _) = split_chain(ram, chain, QUEUE_SIZE)?;
            self.hand_on(port, readable, stop)
        })
    }

    /// Hands one chain on, or as much of it as is wanted from a device that shall stop.
    fn hand_on(
        &mut self,
        port: Port,
        mut readable: Buffers<'_>,
        stop: &StopFlag,
    ) -> Result<u32, Fault> {
        while !readable.is_empty() {
            let mut len = readable.len().min(PIECE);
            if stop.is_raised() {
                len = len.min(self.last_words);
                self.last_words -= len;
            }
            if len == 0 {
                break;
            }
            let piece = readable.take_front(len)?;
            let mut bytes = vec![0; piece.len()];
            piece.copy_to(&mut bytes);
            (self.output)(port, bytes);
        }
        Ok(0)
    }

    /// Hands on what waits in the queue of `port` of a device that stops.
    fn last_words(&mut self, port: Port, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(port.transmit()) else {
            return Ok(());
        };
        let (ram, stop) = (&context.ram, &context.stop);
        for _ in 0..QUEUE_SIZE {
            let Some(chain) = queue.pop(ram)? else { break };
            let head = chain.head_index();
            let (readable, _) = split_chain(ram, chain, QUEUE_SIZE)?;
            self.hand_on(port, readable, stop)?;
            queue.add_used(ram, head, 0)?;
        }
        Ok(())
    }

    /// Gives the guest what waits for `port`, as far as it has room.
    fn receive(&mut self, port: Port, context: &mut Context) -> Result<(), Fault> {
        let input = &self.input;
        fill(context, port.receive(), |room| {
            input.with(port, |waiting| {
                let count = room.min(waiting.len());
                (count > 0).then(|| waiting.drain(..count).collect())
            })
        })
    }

    /// Answers the driver's control messages.
    fn control(&mut self, context: &mut Context) -> Result<(), Fault> {
        if let Some(Some(queue)) = context.queues.get_mut(CONTROL_TRANSMIT) {
            let ram: &GuestRam = &context.ram;
            let control = &mut self.control;
            queue.drain(ram, &context.interrupt, |chain| {
                let (readable, _) = split_chain(ram, chain, QUEUE_SIZE)?;
                let mut message = [0; control::LEN];
                if readable.copy_to(&mut message) == control::LEN {
                    control.take(message);
                }
                Ok(0)
            })?;
        }
        let control = &mut self.control;
        fill(context, CONTROL_RECEIVE, |room| control.next(room))
    }
}

/// Puts pieces into the chains of queue `index` while there are both: `next` gets the room in
/// bytes and returns at most that many.
fn fill(
    context: &mut Context,
    index: usize,
    mut next: impl FnMut(usize) -> Option<Vec<u8>>,
) -> Result<(), Fault> {
    let (ram, interrupt): (&GuestRam, &Interrupt) = (&context.ram, &context.interrupt);
    let Some(Some(queue)) = context.queues.get_mut(index) else {
        return Ok(());
    };
    loop {
        while let Some(chain) = queue.pop(ram)? {
            let head = chain.head_index();
            let (_, writable) = split_chain(ram, chain, QUEUE_SIZE)?;
            let Some(bytes) = next(writable.len()) else {
                queue.put_back();
                return queue.signal(ram, interrupt);
            };
            let count = writable.copy_from(&bytes);
            queue.add_used(ram, head, count as u32)?;
        }
        queue.signal(ram, interrupt)?;
        if !queue.listen(ram)? {
            return Ok(());
        }
    }
}

impl Device for Console {
    fn kind(&self) -> Kind {
        Kind::Console
    }

    fn features(&self) -> u64 {
        F_MULTIPORT
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; QUEUES]
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn wakeup(&self) -> Option<OwnedFd> {
        self.input.0.event.as_fd().try_clone_to_owned().ok()
    }

    fn activate(&mut self, _context: &mut Context) -> Result<(), Fault> {
        self.control = Control::default();
        self.last_words = LAST_WORDS;
        Ok(())
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        if matches!(index, CONTROL_RECEIVE | CONTROL_TRANSMIT) {
            return self.control(context);
        }
        for port in Port::ALL {
            if index == port.transmit() {
                return self.transmit(port, context);
            } else if index == port.receive() {
                return self.receive(port, context);
            }
        }
        Ok(())
    }

    /// Linux does not wait until what it writes to a port was seen (`port_fops_write` in
    /// drivers/char/virtio_console.c): the last words of a guest that powers itself off are
    /// still in the queue.
    fn stopping(&mut self, context: &mut Context) -> Result<(), Fault> {
        Port::ALL
            .into_iter()
            .try_for_each(|port| self.last_words(port, context))
    }

    fn woken(&mut self, context: &mut Context) -> Result<(), Fault> {
        // Before looking: what comes later signals it again. It may have been read already.
        let _ = self.input.0.event.read();
        for port in Port::ALL {
            self.receive(port, context)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
