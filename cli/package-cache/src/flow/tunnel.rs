//! Both ways, untouched.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::connection::{Broken, CHUNK, Flow};

/// Passes on `first`, which the guest has sent already, and everything after it.
pub(super) fn run(flow: &Flow, first: &[u8]) -> Result<(), Broken> {
    (&flow.server)
        .write_all(first)
        .map_err(super::connection::server)?;
    let mut buffer = vec![0; CHUNK];
    std::thread::scope(|scope| {
        let up = std::thread::Builder::new().stack_size(128 << 10);
        let up = up
            .spawn_scoped(scope, || up_the_line(flow))
            .map_err(super::connection::server)?;
        let down = loop {
            match (&flow.server).read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    flow.shared.counters.fetched(count);
                    let bytes = buffer.get(..count).unwrap_or_default();
                    if (&flow.guest).write_all(bytes).is_err() {
                        break Err(Broken::Guest);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break Err(Broken::Server),
            }
        };
        match down {
            Ok(()) => {
                let _ = flow.guest.shutdown(Shutdown::Write);
            }
            Err(Broken::Guest) => {
                let _ = flow.server.shutdown(Shutdown::Both);
                let _ = flow.guest.shutdown(Shutdown::Both);
            }
            // The guest must not take this for an end before it is told.
            Err(Broken::Server) => {
                flow.shared.reset(flow.id);
                let _ = flow.guest.shutdown(Shutdown::Both);
            }
        }
        let up = up.join().unwrap_or(Err(Broken::Server));
        down.and(up)
    })
}

fn up_the_line(flow: &Flow) -> Result<(), Broken> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match (&flow.guest).read(&mut buffer) {
            Ok(0) => {
                let _ = flow.server.shutdown(Shutdown::Write);
                return Ok(());
            }
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                if (&flow.server).write_all(bytes).is_err() {
                    // What the server has said is read to its end by the other thread.
                    return Ok(());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => {
                let _ = flow.server.shutdown(Shutdown::Both);
                return Err(Broken::Guest);
            }
        }
    }
}
