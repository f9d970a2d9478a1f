//! What a batch and its workers say to each other (docs/runners.md).
//!
//! A batch writes lines to the standard input of a worker: the job, as one JSON object, then
//! [`ALIVE`] every few seconds, and [`STOP`] as often as the user asked for it. The end of the input is
//! the end of the batch or of the connection. A worker writes events to its standard output, between
//! them those of its build.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of this protocol. A worker of another one refuses the job.
pub(in crate::commands) const PROTOCOL: u32 = 1;

/// The line that says that the batch is there.
pub(in crate::commands) const ALIVE: &str = "alive";

/// The line that tells the build to stop; a second one, to stop at once.
pub(in crate::commands) const STOP: &str = "stop";

/// How long a worker takes at most to end its build once it has lost the batch.
pub(in crate::commands) const END_OF_BUILD: Duration = Duration::from_secs(10);

/// The version of this program.
pub(in crate::commands) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes that need not be text: a word of a command line, a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::commands) enum Word {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Word {
    fn from(word: &OsStr) -> Word {
        match word.to_str() {
            Some(text) => Word::Text(text.to_owned()),
            None => Word::Bytes(word.as_bytes().to_vec()),
        }
    }
}

impl From<&Path> for Word {
    fn from(path: &Path) -> Word {
        path.as_os_str().into()
    }
}

impl Word {
    /// Returns the bytes as a word of a command line.
    pub(in crate::commands) fn to_os_string(&self) -> OsString {
        match self {
            Word::Text(text) => text.into(),
            Word::Bytes(bytes) => OsString::from_vec(bytes.clone()),
        }
    }

    /// Returns the bytes as a path.
    pub(in crate::commands) fn to_path(&self) -> PathBuf {
        self.to_os_string().into()
    }
}

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct Job {
    /// [`PROTOCOL`] of the batch.
    pub(in crate::commands) protocol: u32,
    /// Version of the batch's boxbuild.
    pub(in crate::commands) version: String,
    /// The worker gives up after so long without a line.
    pub(in crate::commands) lost_after_seconds: u64,
    /// What must be so on its host.
    pub(in crate::commands) expected: Expected,
    /// The build; without one, the worker only looks.
    pub(in crate::commands) build: Option<Build>,
}

/// A build for a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct Build {
    /// The folder that relative paths begin in.
    pub(in crate::commands) folder: Word,
    /// The command line, without the program's name.
    pub(in crate::commands) words: Vec<Word>,
    /// The target folder.
    pub(in crate::commands) target_dir: Word,
}

/// What must be so on the host of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct Expected {
    pub(in crate::commands) boxes: Vec<ExpectedBox>,
    pub(in crate::commands) descriptions: Vec<ExpectedDescription>,
    pub(in crate::commands) shared: Vec<SharedFile>,
    /// Architecture for which the kvm engine must work.
    pub(in crate::commands) kvm: Option<String>,
}

impl Expected {
    /// Adds what another build expects, each thing once.
    pub(in crate::commands) fn add(&mut self, other: Expected) {
        fn once<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
            for one in more {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        once(&mut self.boxes, other.boxes);
        once(&mut self.descriptions, other.descriptions);
        once(&mut self.shared, other.shared);
        if self.kvm.is_none() {
            self.kvm = other.kvm;
        }
    }
}

/// A box as the batch has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct ExpectedBox {
    /// Its name in the store.
    pub(in crate::commands) name: String,
    /// Names and checksums of its files.
    pub(in crate::commands) files: Vec<(String, String)>,
}

/// A description as the batch has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct ExpectedDescription {
    pub(in crate::commands) folder: Word,
    /// [`super::fingerprint::of_description`].
    pub(in crate::commands) fingerprint: String,
}

/// A file that shows that a folder is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct SharedFile {
    pub(in crate::commands) path: Word,
    pub(in crate::commands) text: String,
}

/// What a worker reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(in crate::commands) enum WorkerEvent {
    /// The runner has given the job to this host.
    Place {
        /// Its name.
        host: String,
    },
    /// The worker has begun.
    Worker {
        /// Its host.
        host: String,
        /// Version of its boxbuild.
        version: String,
    },
    /// The host has all that is expected; the build begins.
    Ready,
    /// It is still there.
    Alive,
    /// The host cannot be used. Nothing was done.
    Unfit {
        /// Why, for people.
        reason: String,
    },
}

impl WorkerEvent {
    /// The values of the key `event`.
    pub(in crate::commands) const NAMES: &[&str] = &["place", "worker", "ready", "alive", "unfit"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_any_bytes_arrive() {
        for bytes in [&b"a b'\"$\n"[..], b"\xff\x00", b""] {
            let word = Word::from(OsStr::from_bytes(bytes));
            let line = serde_json::to_string(&word).unwrap();
            assert!(!line.contains('\n'));
            let read: Word = serde_json::from_str(&line).unwrap();
            assert_eq!(read.to_os_string().as_bytes(), bytes);
        }
    }

    #[test]
    fn events_are_known_by_their_names() {
        let events = [
            WorkerEvent::Place {
                host: String::from("n1"),
            },
            WorkerEvent::Worker {
                host: String::from("n1"),
                version: String::from("1"),
            },
            WorkerEvent::Ready,
            WorkerEvent::Alive,
            WorkerEvent::Unfit {
                reason: String::from("no box"),
            },
        ];
        for (event, name) in events.iter().zip(WorkerEvent::NAMES) {
            let value = serde_json::to_value(event).unwrap();
            assert_eq!(value["event"], *name);
            // With the time that every event has.
            let line = format!(
                "{},\"time\":\"now\"}}",
                value.to_string().trim_end_matches('}')
            );
            assert_eq!(serde_json::from_str::<WorkerEvent>(&line).unwrap(), *event);
        }
        assert_eq!(events.len(), WorkerEvent::NAMES.len());
    }
}
