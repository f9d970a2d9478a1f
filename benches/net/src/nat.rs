//! The process that serves a TAP with boxbuild's NAT, as the virtio network card does.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use boxbuild_vmm::net::{LARGEST_FRAME, Nat, NetworkConfig, Offloads};
use boxbuild_vmm::virtio::net::{HEADER, header};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// The most frames that are read before frames for the guest are sent.
const BATCH: usize = 64;

/// Serves the TAP that is the standard input until it is gone or the bench ends.
pub(crate) fn serve() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut tap = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    fcntl(&tap, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut nat = Nat::new(NetworkConfig::default())?;
    nat.set_offloads(Offloads {
        checksum: true,
        tcp4: true,
        tcp6: true,
    });
    let wakeup = nat.pollable()?;
    let mut buffer = vec![0; HEADER + LARGEST_FRAME];
    loop {
        let mut waits = [
            PollFd::new(tap.as_fd(), PollFlags::POLLIN),
            PollFd::new(wakeup.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut waits, PollTimeout::NONE).context("poll")?;
        let [guest, host] = waits.map(|wait| wait.any().unwrap_or(false));
        if host {
            nat.poll();
        }
        for _ in 0..if guest { BATCH } else { 0 } {
            match tap.read(&mut buffer) {
                Ok(len) => nat.take(buffer.get(HEADER..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("the TAP"),
            }
        }
        while let Some(frame) = nat.next_frame() {
            let header = header(&frame, 1);
            let parts = [IoSlice::new(&header), IoSlice::new(&frame.bytes)];
            // A frame that the TAP refuses is lost, as on any link.
            let _ = tap.write_vectored(&parts);
        }
    }
}
