//! Our NAT behind a TAP, as the virtio network card drives it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, FromRawFd};

use anyhow::{Context, Result};
use boxbuild_vmm::net::{LARGEST_FRAME, Nat, NetworkConfig, Offloads};
use boxbuild_vmm::virtio::net::{HEADER, header};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// As many frames are taken before the guest gets answers.
const BATCH: usize = 64;

/// Serves the TAP with the descriptor `tap`, which is ours now, until it or the bench is gone.
pub(crate) fn serve(tap: i32) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // SAFETY: whoever started us gave us this descriptor, and nobody else here knows of it.
    let mut tap = unsafe { File::from_raw_fd(tap) };
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
            // What a TAP does not take is lost, as on any link.
            let _ = tap.write_vectored(&parts);
        }
    }
}
