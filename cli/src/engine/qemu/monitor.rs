//! QEMU's monitor protocol, as far as it decides how a run ended (QEMU, docs/interop/qmp-spec).

use serde_json::Value;

/// Bytes of one message that are kept at most.
const LONGEST_MESSAGE: usize = 1 << 20;

/// What the monitor has said so far.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    partial: Vec<u8>,
    /// Why the guest stopped running, once it has.
    pub(super) shutdown: Option<Shutdown>,
    /// The overlay's file system is full.
    pub(super) no_space: bool,
}

/// The reason of a SHUTDOWN event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// The guest powered off.
    Guest,
    /// The guest asked for a reset.
    Reset,
    /// The host ended it.
    Host,
}

impl Monitor {
    /// Ends the negotiation of capabilities; commands work after it.
    pub(super) const HELLO: &'static [u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

    /// Ends QEMU.
    pub(super) const QUIT: &'static [u8] = b"{\"execute\":\"quit\"}\n";

    /// Takes bytes from the monitor.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let message = std::mem::take(&mut self.partial);
                if let Ok(message) = serde_json::from_slice(&message) {
                    self.message(&message);
                }
            } else if self.partial.len() < LONGEST_MESSAGE {
                self.partial.push(*byte);
            }
        }
    }

    fn message(&mut self, message: &Value) {
        let data = &message["data"];
        match message["event"].as_str() {
            Some("SHUTDOWN") => {
                self.shutdown.get_or_insert(match data["reason"].as_str() {
                    Some("guest-shutdown") => Shutdown::Guest,
                    Some("guest-reset" | "guest-panic" | "subsystem-reset") => Shutdown::Reset,
                    _ => Shutdown::Host,
                });
            }
            Some("BLOCK_IO_ERROR") => self.no_space |= data["nospace"] == Value::Bool(true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_in_pieces() {
        let mut monitor = Monitor::default();
        monitor.push(b"{\"QMP\": {}}\r\n{\"return\": {}}\r\nnot json\r\n{\"event\": \"SHUT");
        assert_eq!(monitor.shutdown, None);
        monitor.push(b"DOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\r\n");
        monitor.push(b"{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"host-qmp-quit\"}}\n");
        assert_eq!(
            monitor.shutdown,
            Some(Shutdown::Reset),
            "the first reason counts"
        );
        assert!(!monitor.no_space);
        monitor.push(b"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"nospace\": true}}\n");
        assert!(monitor.no_space);
    }

    #[test]
    fn an_endless_message_is_cut() {
        let mut monitor = Monitor::default();
        for _ in 0..40 {
            monitor.push(&[b'x'; 64 << 10]);
        }
        assert_eq!(monitor.partial.len(), LONGEST_MESSAGE);
    }
}
