//! Random numbers (virtio 1.2, section 5.4), from the host's kernel.

use std::sync::Arc;

use super::chain::split_chain;
use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::kind::Kind;
use super::queue::ActiveQueue;

/// Bytes that one request gets at most; the driver asks for 64.
const MOST: usize = 4096;
/// Entries of the queue.
const QUEUE: u16 = 8;

/// A source of random numbers.
#[derive(Debug, Default)]
pub struct Rng;

impl Device for Rng {
    fn kind(&self) -> Kind {
        Kind::Rng
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE]
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::new(DeviceConfig::new(Vec::new(), 0..0))
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(index) else {
            return Ok(());
        };
        let ram = &context.ram;
        ActiveQueue::drain(queue, ram, &context.interrupt, |chain| {
            let (_, writable) = split_chain(ram, chain, QUEUE)?;
            let mut bytes = vec![0; writable.len().min(MOST)];
            crate::random(&mut bytes).map_err(|error| Fault::Host(error.to_string()))?;
            Ok(writable.copy_from(&bytes) as u32)
        })
    }
}
