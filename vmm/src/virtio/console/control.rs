//! The control messages of a console with several ports (virtio 1.2, section 5.3.6.2).

use std::collections::VecDeque;

use super::port::{CONTROL_PORT, Port};

/// Bytes of a message without a name: port number, event, value.
pub(super) const LEN: usize = 8;

/// What a message says (table of section 5.3.6.2).
const DEVICE_READY: u16 = 0;
const DEVICE_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const CONSOLE_PORT: u16 = 4;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// Messages that wait at most: more than a driver needs, so that one that only asks and never
/// listens costs nothing.
const MOST: usize = 64;

/// The device's side of the conversation.
#[derive(Debug, Default)]
pub(super) struct Control {
    waiting: VecDeque<Vec<u8>>,
}

impl Control {
    /// A message from the driver.
    pub(super) fn take(&mut self, message: [u8; LEN]) {
        let [a, b, c, d, e, f, g, h] = message;
        let number = u32::from_le_bytes([a, b, c, d]);
        let (event, value) = (u16::from_le_bytes([e, f]), u16::from_le_bytes([g, h]));
        match event {
            DEVICE_READY if value == 1 => {
                for port in Port::ALL {
                    self.say(port, DEVICE_ADD, 1, b"");
                }
            }
            PORT_READY if value == 1 => match Port::ALL.iter().find(|p| p.number() == number) {
                Some(Port::Console) => {
                    self.say(Port::Console, CONSOLE_PORT, 1, b"");
                    self.say(Port::Console, PORT_OPEN, 1, b"");
                }
                Some(Port::Control) => {
                    self.say(Port::Control, PORT_NAME, 1, CONTROL_PORT.as_bytes());
                    self.say(Port::Control, PORT_OPEN, 1, b"");
                }
                None => {}
            },
            _ => {}
        }
    }

    fn say(&mut self, port: Port, event: u16, value: u16, name: &[u8]) {
        if self.waiting.len() < MOST {
            let mut message = Vec::with_capacity(LEN + name.len());
            message.extend(port.number().to_le_bytes());
            message.extend(event.to_le_bytes());
            message.extend(value.to_le_bytes());
            message.extend(name);
            self.waiting.push_back(message);
        }
    }

    /// The next message for a buffer of `room` bytes. A message that does not fit is lost, as
    /// the driver wants it.
    pub(super) fn next(&mut self, room: usize) -> Option<Vec<u8>> {
        let mut message = self.waiting.pop_front()?;
        message.truncate(room);
        Some(message)
    }
}
