//! The thread that follows the machine's process until it is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use boxbuild_host::text::plain;
use boxbuild_jail::{Exit, MAX_MESSAGE};

use super::shared::Shared;
use super::verdict;
use super::wire::{FromMachine, Report, Wish};
use crate::channel::EventSender;
use crate::event::{Ended, Event};
use crate::network::NetworkWatch;

/// How often what is no message is looked at.
const TICK: Duration = Duration::from_millis(500);
/// Time for the process to end once it does not talk any more.
const END: Duration = Duration::from_secs(2);

/// Follows the machine's process.
pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) events: EventSender,
    /// The folder with the changes of the machine's disk, for messages.
    pub(super) scratch: PathBuf,
    /// Gets the answers to [`Wish::WriteMap`](super::wire::Wish::WriteMap).
    pub(super) maps: SyncSender<Result<(), String>>,
    /// The host's network, if the machine has one.
    pub(super) network: Option<NetworkWatch>,
    pub(super) ended: bool,
}

impl Follower {
    /// Takes all that comes from the process, `first` before that.
    pub(super) fn run(mut self, first: Vec<FromMachine>) {
        for message in first {
            self.take(message);
        }
        let mut buffer = vec![0; MAX_MESSAGE];
        loop {
            let received = self
                .shared
                .process
                .channel()
                .receive_into(&mut buffer, Some(TICK));
            match received {
                Ok(0) => break,
                Ok(len) => {
                    let message = buffer.get(..len).unwrap_or_default();
                    match FromMachine::decode(message) {
                        Ok(message) => self.take(message),
                        // Nothing that we have written says this.
                        Err(_) => self.shared.process.kill(),
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
                Err(_) => break,
            }
            self.shared.enforce_grace();
            if let Some(network) = &mut self.network {
                network.look(|now| self.shared.tell(&Wish::HostNetwork(now.clone())));
            }
        }
        let exit = self.shared.process.wait(END);
        if !self.ended {
            let ended = match exit {
                _ if self.shared.is_killed() => Ended::Killed,
                Ok(exit) => Ended::Failed(words(&exit)),
                Err(error) => Ended::Failed(format!("the machine's process is gone: {error}")),
            };
            self.events.end(ended);
        }
    }

    fn take(&mut self, message: FromMachine) {
        match message {
            FromMachine::Console(bytes) => self.events.send(Event::Console(bytes)),
            FromMachine::Control(bytes) => self.events.send(Event::Control(bytes)),
            FromMachine::Report(report) => self.take_report(report),
        }
    }

    fn take_report(&mut self, report: Report) {
        match report {
            Report::Started { weakness, times: _ } => {
                if let Some(weakness) = weakness {
                    let text = confined_in_part(&clean(&weakness));
                    self.events.send(Event::Note(text));
                }
            }
            Report::Note(text) => self.events.send(Event::Note(clean(&text))),
            Report::StorageFull(text) => {
                let text = full(&clean(&text), &self.scratch);
                self.events.send(Event::Hopeless(text));
            }
            Report::Figures(figures) => self.shared.set_figures(figures),
            Report::MapWritten(result) => {
                // Ignored where none is waited for.
                let _ = self.maps.try_send(result.map_err(|text| clean(&text)));
            }
            Report::Ended(ended) if !self.ended => {
                self.ended = true;
                if matches!(ended, Ended::TripleFault(_) | Ended::Failed(_)) {
                    verdict::forget();
                }
                self.shared.guest_ended();
                self.events.end(clean_ended(ended));
            }
            // Said once, at the start or at the end.
            Report::Ended(_) | Report::NotStarted(_) => {}
        }
    }
}

/// How the process ended, with its own words.
pub(super) fn words(exit: &Exit) -> String {
    let said = plain_lines(&exit.words);
    let mut text = format!("the machine's process ended before its guest: {exit}");
    if !said.is_empty() {
        text = format!("{text}: {said}");
    }
    text
}

/// Lines without control characters, joined.
fn plain_lines(bytes: &[u8]) -> String {
    let lines = bytes.split(|byte| *byte == b'\n').map(plain);
    let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
    lines.join("; ")
}

/// A text of the process, for a terminal.
pub(super) fn clean(text: &str) -> String {
    plain_lines(text.as_bytes())
}

fn clean_ended(ended: Ended) -> Ended {
    match ended {
        Ended::TripleFault(text) => Ended::TripleFault(clean(&text)),
        Ended::Failed(text) => Ended::Failed(clean(&text)),
        ended => ended,
    }
}

/// The host confines the machine's process less than it could.
fn confined_in_part(weakness: &str) -> String {
    format!(
        "the kernel of this host cannot confine the machine's process as far as others: {weakness}. \
         What the guest says is checked all the same; --require-confinement refuses such hosts"
    )
}

/// The message for a full file system below the changes of the box's disk.
fn full(text: &str, scratch: &Path) -> String {
    format!(
        "{text}: the file system of {}, which holds the changes of the box's disk, is full: free \
         some space, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
        scratch.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn a_full_file_system_is_named() {
        let text = full("no room", Path::new("/scratch"));
        assert!(
            text.starts_with("no room: ") && text.contains("/scratch") && text.contains("is full"),
            "{text}"
        );
    }

    #[test]
    fn what_a_process_said_is_shown_without_escape_sequences() {
        let exit = Exit {
            status: ExitStatus::from_raw(0x0100),
            words: b"thread 'vcpu0' panicked:\n\x1b[2Jno\x07 room\n\n".to_vec(),
        };
        assert_eq!(
            words(&exit),
            "the machine's process ended before its guest: it ended with exit code 1: thread \
             'vcpu0' panicked:; no room"
        );
    }
}
