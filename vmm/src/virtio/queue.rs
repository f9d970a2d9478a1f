//! A queue that the driver has enabled.

use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::chain::Chain;
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::stop_flag::StopFlag;
use crate::memory::GuestRam;

/// A queue in use.
#[derive(Debug)]
pub struct ActiveQueue {
    queue: Queue,
    index: usize,
    event: EventFd,
    stop: StopFlag,
    /// Index of the first chain that [`Self::look_ahead`] has not shown.
    shown: u16,
}

impl ActiveQueue {
    /// `queue` is number `index` of its device; `event` says that there is something in it, `stop`
    /// that nothing in it matters any more.
    pub fn new(queue: Queue, index: usize, event: EventFd, stop: StopFlag) -> ActiveQueue {
        ActiveQueue {
            shown: queue.next_avail(),
            queue,
            index,
            event,
            stop,
        }
    }

    /// Signalled by the driver's notifications.
    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Raised when nothing in it matters any more.
    pub(super) fn stop(&self) -> &StopFlag {
        &self.stop
    }

    /// Lets this thread look at the queue again, after other events have had their turn.
    pub(super) fn look_again(&self) -> Result<(), Fault> {
        let written = self.event.write(1);
        written.map_err(|error| Fault::Host(error.to_string()))
    }

    /// Whether there is a chain.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn has_next(&self, ram: &GuestRam) -> Result<bool, Fault> {
        let available = self.queue.avail_idx(ram, Ordering::Acquire)?;
        Ok(available.0 != self.queue.next_avail())
    }

    /// Takes the next chain, if there is one.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn pop<'m>(&mut self, ram: &'m GuestRam) -> Result<Option<Chain<'m>>, Fault> {
        Ok(self.queue.iter(ram)?.next())
    }

    /// Puts the last chain back: [`Self::pop`] returns it again.
    pub fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Shows chains that wait, each once and at most the first `most` of them, without taking them.
    /// `look` returns whether it wants more now. The driver may still change them.
    fn look_ahead<'m>(
        &mut self,
        ram: &'m GuestRam,
        most: u16,
        look: &mut impl FnMut(Chain<'m>) -> bool,
    ) {
        let next = self.queue.next_avail();
        let mut ahead = self.shown.wrapping_sub(next);
        if ahead > self.queue.size() {
            // Those that were shown have been taken.
            ahead = 0;
        }
        self.queue.set_next_avail(next.wrapping_add(ahead));
        // What is wrong with the ring, the taking of the next one tells.
        if let Ok(chains) = self.queue.iter(ram) {
            for chain in chains.take(usize::from(most.saturating_sub(ahead))) {
                if !look(chain) {
                    break;
                }
                ahead += 1;
            }
        }
        self.queue.set_next_avail(next);
        self.shown = next.wrapping_add(ahead);
    }

    /// Returns the chain that began at descriptor `head`, with `len` bytes written into it.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn add_used(&mut self, ram: &GuestRam, head: u16, len: u32) -> Result<(), Fault> {
        Ok(self.queue.add_used(ram, head, len)?)
    }

    /// Interrupts the driver because of used chains, if it wants to know.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn signal(&mut self, ram: &GuestRam, interrupt: &Interrupt) -> Result<(), Fault> {
        if self.queue.needs_notification(ram)? {
            interrupt.queue(self.index);
        }
        Ok(())
    }

    /// Asks to be notified of the next chain. Returns whether there is one already.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn listen(&mut self, ram: &GuestRam) -> Result<bool, Fault> {
        Ok(self.queue.enable_notification(ram)?)
    }

    /// Lets `serve` answer the chains that are there: it returns the number of bytes written.
    /// Meanwhile the driver need not notify.
    ///
    /// A guest can let a device write its own ring, so that there is always one more chain.
    /// After as many as the queue has entries other events get their turn, and the queue's own
    /// event then continues here. A device that shall stop leaves what it has not begun.
    ///
    /// # Errors
    /// If the ring is broken or `serve` gives up.
    pub fn drain<'m>(
        &mut self,
        ram: &'m GuestRam,
        interrupt: &Interrupt,
        serve: impl FnMut(Chain<'m>) -> Result<u32, Fault>,
    ) -> Result<(), Fault> {
        self.drain_looking_ahead(ram, interrupt, (0, |_| false), serve)
    }

    /// The same. Before each chain is answered, `look` is shown those that wait behind it, at most so many:
    /// it returns whether it wants more of them now.
    ///
    /// # Errors
    /// See [`Self::drain`].
    pub fn drain_looking_ahead<'m>(
        &mut self,
        ram: &'m GuestRam,
        interrupt: &Interrupt,
        (most, mut look): (u16, impl FnMut(Chain<'m>) -> bool),
        mut serve: impl FnMut(Chain<'m>) -> Result<u32, Fault>,
    ) -> Result<(), Fault> {
        let mut rest = self.queue.size();
        loop {
            self.queue.disable_notification(ram)?;
            while let Some(chain) = self.pop(ram)? {
                if self.stop.is_raised() {
                    self.put_back();
                    return Ok(());
                }
                if most > 0 {
                    self.look_ahead(ram, most, &mut look);
                }
                let head = chain.head_index();
                let written = serve(chain)?;
                self.add_used(ram, head, written)?;
                self.signal(ram, interrupt)?;
                rest = rest.saturating_sub(1);
                if rest == 0 {
                    return self.look_again();
                }
            }
            if !self.listen(ram)? {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
    use vm_memory::{Bytes, GuestAddress};

    use crate::memory::flat;
    use crate::test_support::{Recorder, context};

    /// Indices count modulo 2^16: a chain is taken, put back, taken again and answered wherever they
    /// are, with flags and with event indices.
    #[test]
    fn a_chain_is_taken_and_answered_at_any_index() {
        let ram = flat(64).unwrap();
        for event_idx in [false, true] {
            for index in 0..=u16::MAX {
                // All of them without, and what is near the ends with event indices.
                if event_idx && (300..u16::MAX - 300).contains(&index) {
                    continue;
                }
                let layout = QueueLayout::new(GuestAddress(0x10_0000), 8).unwrap();
                let driver = DriverQueue::new(layout);
                let driver = if event_idx {
                    driver.with_event_idx()
                } else {
                    driver
                };
                let mut driver = driver.starting_at(&ram, index).unwrap();
                let queue = driver.device_queue().unwrap();
                let recorder = std::sync::Arc::new(Recorder::default());
                let mut context = context(&ram, vec![Some(queue)], recorder);
                let queue = context.queues[0].as_mut().unwrap();
                assert!(!queue.listen(&ram).unwrap());
                let head = driver
                    .add(&ram, &[Buffer::writable(0x20_0000, 16)])
                    .unwrap();
                let first = queue.pop(&ram).unwrap().unwrap().head_index();
                assert!(queue.pop(&ram).unwrap().is_none());
                queue.put_back();
                let again = queue.pop(&ram).unwrap().unwrap().head_index();
                assert_eq!((first, again), (head, head), "{index}");
                queue.add_used(&ram, head, 5).unwrap();
                let used = driver.next_used(&ram).unwrap().unwrap();
                assert_eq!((used.head, used.len), (u32::from(head), 5), "{index}");
                assert!(driver.next_used(&ram).unwrap().is_none());
            }
        }
    }

    /// Whatever the index, each chain behind the one that is answered is shown once, and all are answered
    /// in order.
    #[test]
    fn chains_that_wait_are_shown_once() {
        for (start, most, wants) in [(0, 3, 100), (u16::MAX - 2, 3, 100), (7, 16, 2), (9, 1, 0)] {
            let ram = flat(64).unwrap();
            let layout = QueueLayout::new(GuestAddress(0x10_0000), 16).unwrap();
            let mut driver = DriverQueue::new(layout).starting_at(&ram, start).unwrap();
            let queue = driver.device_queue().unwrap();
            let recorder = std::sync::Arc::new(Recorder::default());
            let mut context = context(&ram, vec![Some(queue)], recorder);
            let queue = context.queues[0].as_mut().unwrap();
            let mut heads = Vec::new();
            for _ in 0..9 {
                let buffers = [Buffer::writable(0x20_0000, 16)];
                heads.push(driver.add(&ram, &buffers).unwrap());
            }
            let (mut shown, mut served) = (Vec::new(), Vec::new());
            let mut left = wants;
            let look = |chain: super::Chain<'_>| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                shown.push(chain.head_index());
                true
            };
            queue
                .drain_looking_ahead(&ram, &context.interrupt, (most, look), |chain| {
                    served.push(chain.head_index());
                    Ok(0)
                })
                .unwrap();
            assert_eq!(served, heads);
            let expected = heads.iter().skip(1).take(wants);
            assert_eq!(shown, expected.copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_ring_that_never_ends_is_left_now_and_then() {
        const SIZE: u16 = 16;
        let ram = flat(64).unwrap();
        let layout = QueueLayout::new(GuestAddress(0x10_0000), SIZE).unwrap();
        let mut driver = DriverQueue::new(layout);
        driver
            .add(&ram, &[Buffer::writable(0x20_0000, 16)])
            .unwrap();
        let queue = driver.device_queue().unwrap();
        let mut context = context(
            &ram,
            vec![Some(queue)],
            std::sync::Arc::new(Recorder::default()),
        );
        let queue = context.queues[0].as_mut().unwrap();
        let mut served = 0_u16;
        queue
            .drain(&ram, &context.interrupt, |_| {
                served += 1;
                assert!(served < 1000, "it does not stop");
                // As if the device's own writing had made the next chain available.
                ram.write_obj(served + 1, layout.available_index()).unwrap();
                Ok(0)
            })
            .unwrap();
        assert_eq!(served, SIZE);
        assert_eq!(queue.event().read().unwrap(), 1);
    }
}
