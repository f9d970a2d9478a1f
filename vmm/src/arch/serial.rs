//! A 16550 serial port: what a kernel can print to before it has found a virtio console.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

use crate::bus::{Effect, Registers};

/// Output is handed on in lines, or in pieces of this many bytes.
const LINE: usize = 1024;

/// Something that raises the interrupt of the port.
#[derive(Clone)]
pub struct SerialInterrupt(Arc<dyn Fn() + Send + Sync>);

impl SerialInterrupt {
    /// Calls `raise` for each interrupt.
    pub fn new(raise: impl Fn() + Send + Sync + 'static) -> SerialInterrupt {
        SerialInterrupt(Arc::new(raise))
    }
}

impl fmt::Debug for SerialInterrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SerialInterrupt")
    }
}

impl Trigger for SerialInterrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        (self.0)();
        Ok(())
    }
}

/// Gathers bytes into lines.
struct Lines {
    buffer: Vec<u8>,
    out: Box<dyn FnMut(Vec<u8>) + Send>,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl Lines {
    fn pass(&mut self) {
        if !self.buffer.is_empty() {
            (self.out)(std::mem::take(&mut self.buffer));
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.buffer.push(byte);
            if byte == b'\n' || self.buffer.len() >= LINE {
                self.pass();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // The port flushes after each byte; that is what we gather against.
        Ok(())
    }
}

/// The serial port.
#[derive(Debug)]
pub struct Serial {
    port: Mutex<vm_superio::Serial<SerialInterrupt, NoEvents, Lines>>,
}

impl Serial {
    /// A port that prints lines to `out`.
    pub fn new(interrupt: SerialInterrupt, out: impl FnMut(Vec<u8>) + Send + 'static) -> Serial {
        let lines = Lines {
            buffer: Vec::new(),
            out: Box::new(out),
        };
        Serial {
            port: Mutex::new(vm_superio::Serial::new(interrupt, lines)),
        }
    }

    /// Hands on what has no newline yet.
    pub fn flush(&self) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        port.writer_mut().pass();
    }
}

impl Registers for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        // String instructions read the same register again and again.
        data.fill_with(|| port.read(offset as u8));
    }

    fn write(&self, offset: u64, data: &[u8]) -> Effect {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in data {
            // Neither the trigger nor the lines fail; a full FIFO is the guest's affair.
            let _ = port.write(offset as u8, byte);
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn output_comes_in_lines() {
        let (sender, lines) = channel();
        let serial = Serial::new(SerialInterrupt::new(|| {}), move |line| {
            let _ = sender.send(line);
        });
        for byte in b"ab\ncd" {
            assert_eq!(serial.write(0, &[*byte]), Effect::None);
        }
        assert_eq!(lines.try_recv().unwrap(), b"ab\n");
        assert!(lines.try_recv().is_err());
        serial.flush();
        assert_eq!(lines.try_recv().unwrap(), b"cd");
        serial.flush();
        assert!(lines.try_recv().is_err());
    }

    #[test]
    fn a_guest_that_wants_interrupts_gets_them() {
        let (sender, raised) = channel();
        let interrupt = SerialInterrupt::new(move || {
            let _ = sender.send(());
        });
        let serial = Serial::new(interrupt, |_| {});
        // Interrupt enable register: transmitter empty.
        assert_eq!(serial.write(1, &[2]), Effect::None);
        assert_eq!(serial.write(0, b"x"), Effect::None);
        assert!(raised.try_recv().is_ok());
    }
}
