//! One connection of a guest to an HTTP server.
//!
//! Requests are taken one after the other as far as they are plain GETs ([`conversation`]). What is kept
//! answers at once; the rest goes to the server, whose answers another thread reads ([`reader`]): what is
//! to be kept goes into a file that the guest is served from, so that a guest that does not read holds no
//! other one up. The first byte that is not understood makes it a tunnel ([`tunnel`]) for the rest of it.

mod answer;
mod connection;
mod conversation;
mod follow;
pub(crate) mod offline;
mod output;
mod progress;
mod reader;
mod serve;
mod tunnel;

use std::time::Duration;

use socket2::SockRef;

use connection::Broken;
pub(crate) use connection::{Absences, Counters, Flow, Shared};
use conversation::Conversation;

impl Flow {
    /// Serves it to its end.
    pub(crate) fn run(self) {
        let ended = Conversation::new(&self).and_then(Conversation::run);
        match ended {
            Ok(()) => {}
            Err(Broken::Guest) => {
                // It is closed in any case.
                let _ = SockRef::from(&self.server).set_linger(Some(Duration::ZERO));
            }
            Err(Broken::Server) => self.shared.reset(self.id),
        }
        // Its other thread has the socket as well.
        let _ = self.server.shutdown(std::net::Shutdown::Both);
    }
}
