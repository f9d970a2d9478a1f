//! QEMU's monitor protocol, as far as it decides how a run ended (QEMU, docs/interop/qmp-spec).

use std::sync::mpsc::Sender;

use boxbuild_host::secret;
use serde_json::{Value, json};

use crate::Moved;

/// Bytes of one message that are kept at most.
const LONGEST_MESSAGE: usize = 1 << 20;

/// What the monitor has reported so far.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    partial: Vec<u8>,
    /// Why the guest stopped running, once it has.
    pub(super) shutdown: Option<Shutdown>,
    /// How often the guest has restarted.
    pub(super) resets: u32,
    /// The overlay's file system is full.
    pub(super) no_space: bool,
    /// What went through the disks, as far as it has been asked.
    pub(super) disk: Option<Moved>,
    /// A question has not been answered yet.
    pub(super) asked: bool,
    /// Gets the answers to what was asked for a checkpoint, in order: an error in QEMU's words.
    steps: Option<Sender<Result<(), String>>>,
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
    /// The first words to a QEMU that boots a kernel with `cmdline`: they end the negotiation of
    /// capabilities. A command line with a secret is none of its arguments, which wait for it here
    /// (qemu(1), `-preconfig`).
    pub(super) fn hello(cmdline: &str) -> Vec<u8> {
        let mut words = vec![json!({"execute": "qmp_capabilities"})];
        if secret::is_in(cmdline) {
            words.push(json!({"execute": "qom-set", "arguments":
                {"path": "/machine", "property": "append", "value": cmdline}}));
            words.push(json!({"execute": "x-exit-preconfig"}));
        }
        let lines: String = words.iter().map(|word| format!("{word}\n")).collect();
        lines.into_bytes()
    }

    /// Ends QEMU.
    pub(super) const QUIT: &'static [u8] = b"{\"execute\":\"quit\"}\n";

    /// Asks what went through the disks.
    pub(super) const BLOCKS: &'static [u8] =
        b"{\"execute\":\"query-blockstats\",\"id\":\"blocks\"}\n";

    /// What is asked for a checkpoint has this id.
    pub(super) const STEP: &'static str = "checkpoint";

    /// One that passes on the answers to what is asked for a checkpoint.
    pub(super) fn telling(steps: Sender<Result<(), String>>) -> Monitor {
        Monitor {
            steps: Some(steps),
            ..Monitor::default()
        }
    }

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
        if message["id"] == "blocks" {
            self.asked = false;
            self.disk = message["return"].as_array().map(|disks| moved(disks));
        }
        if message["id"] == Monitor::STEP
            && let Some(steps) = &self.steps
        {
            let problem = message["error"]["desc"].as_str().map(str::to_owned);
            let is_error = message.get("error").is_some();
            let _ = steps.send(match problem {
                None if !is_error => Ok(()),
                problem => Err(problem.unwrap_or_default()),
            });
        }
        let data = &message["data"];
        match message["event"].as_str() {
            Some("SHUTDOWN") => {
                self.shutdown.get_or_insert(match data["reason"].as_str() {
                    Some("guest-shutdown") => Shutdown::Guest,
                    Some("guest-reset" | "guest-panic" | "subsystem-reset") => Shutdown::Reset,
                    _ => Shutdown::Host,
                });
            }
            Some("RESET") if data["guest"] == Value::Bool(true) => {
                self.resets = self.resets.saturating_add(1);
            }
            Some("BLOCK_IO_ERROR") => self.no_space |= data["nospace"] == Value::Bool(true),
            _ => {}
        }
    }
}

/// The sum over the answer to [`Monitor::BLOCKS`].
fn moved(disks: &[Value]) -> Moved {
    let sum = |name: &str| {
        let bytes = disks.iter().map(|disk| &disk["stats"][name]);
        bytes.filter_map(Value::as_u64).sum()
    };
    Moved {
        to_guest: sum("rd_bytes"),
        from_guest: sum("wr_bytes"),
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
        // Those of the host, such as the one at power-on, are not the guest's.
        monitor.push(b"{\"event\": \"RESET\", \"data\": {\"guest\": false}}\n");
        assert_eq!(monitor.resets, 0);
        monitor.push(b"{\"event\": \"RESET\", \"data\": {\"guest\": true}}\n");
        assert_eq!(monitor.resets, 1);
        monitor.push(b"{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"nospace\": true}}\n");
        assert!(monitor.no_space);
    }

    #[test]
    fn disks_are_added_up() {
        let mut monitor = Monitor {
            asked: true,
            ..Monitor::default()
        };
        monitor.push(
            b"{\"return\": [{\"device\": \"\", \"stats\": {\"rd_bytes\": 10, \"wr_bytes\": 3}}, \
              {\"stats\": {\"rd_bytes\": 5}}, 7], \"id\": \"blocks\"}\r\n",
        );
        assert!(!monitor.asked);
        let Some(moved) = monitor.disk else {
            panic!("no answer");
        };
        assert_eq!((moved.to_guest, moved.from_guest), (15, 3));
        monitor.push(b"{\"error\": {}, \"id\": \"blocks\"}\n");
        assert_eq!(monitor.disk, None);
    }

    #[test]
    fn answers_to_a_checkpoint_are_passed_on_in_order() {
        let (steps, answers) = std::sync::mpsc::channel();
        let mut monitor = Monitor::telling(steps);
        monitor.push(
            b"{\"return\": {\"fd\": 3}, \"id\": \"checkpoint\"}\n{\"return\": {}, \"id\": \"blocks\"}\n\
              {\"id\": \"checkpoint\", \"error\": {\"class\": \"X\", \"desc\": \"no room\"}}\n",
        );
        let said: Vec<_> = answers.try_iter().collect();
        assert_eq!(said, [Ok(()), Err(String::from("no room"))]);
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
