//! What a running machine or container reports.

use serde::{Deserialize, Serialize};

/// Something that happened in a running machine.
#[derive(Debug)]
pub enum Event {
    /// Bytes that the guest wrote to its console (hvc0), in order.
    Console(Vec<u8>),
    /// Bytes that the guest wrote to the control port `org.boxbuild.control`.
    Control(Vec<u8>),
    /// Something that the user should know, though the machine runs.
    Note(String),
    /// The host is in the machine's way, so that it cannot come to a good end; the text says
    /// how, and what to do. The owner of the run has to end it.
    Hopeless(String),
    /// The machine is gone. The last event of a run.
    Ended(Ended),
}

/// How a run ended, seen from outside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest asked for a reset: `panic=` after a kernel panic, or `reboot`. A box never
    /// reboots, so this is never good.
    Reset,
    /// A CPU of the guest could not go on; the text says which, and where. Only some engines
    /// can tell it from a reset.
    TripleFault(String),
    /// The engine itself failed; the text says how (exit status and last words).
    Failed(String),
    /// Stopped by [`Running::kill`].
    Killed,
}
