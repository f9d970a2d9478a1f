//! A VMM whose vhost-user messages are the fuzzer's bytes.
//!
//! The input is a row of records: kind, flags and length of what follows (1 byte each), then that
//! many bytes. The kind is the number of a message (vhost-user, "Front-end message types"), and
//! what follows its payload. With kind [`MEMORY`] they are written to the guest's memory instead, at
//! 16 times the number in their first 2 bytes; with [`KICK`], the driver has made requests.
//!
//! | flags | |
//! |---|---|
//! | 0x03 | descriptors that come with the message: files of [`FILES`] in turns |
//! | 0x0c | the first of them |
//! | 0x10 | a reply is asked for |
//! | 0x20 | the length in the header is not true: 256 times what it is |
//! | 0x40 | the header has another version |

use std::fs::File;
use std::io::{IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs::{MountTag, Share};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Bytes of the guest's memory.
const RAM: u64 = 1 << 20;
/// Files that messages bring: the guest's memory, two events, and one that is neither.
const FILES: usize = 4;
const MEMORY: u8 = 63;
const KICK: u8 = 62;
/// Longest wait for the server's last word.
const PATIENCE: Duration = Duration::from_secs(5);

/// A VMM that speaks to the server of a share. `data`: see above.
pub fn vhost_user(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let root = dir.path().join("root");
    let made = std::fs::create_dir(&root).and_then(|()| std::fs::write(root.join("file"), "x"));
    let (Ok(()), Ok(tag)) = (made, MountTag::new("share")) else {
        return;
    };
    let Ok((server, stream)) = ShareServer::start(Share::new(tag, &root)) else {
        return;
    };
    if speak(&stream, data).is_some() {
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let end = (&stream).read_to_end(&mut Vec::new());
        let late = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!late, "the server does not end with its connection");
    }
    drop(stream);
    drop(server);
    // Nothing happened beside the share.
    let beside = std::fs::read_dir(dir.path()).map_or(0, Iterator::count);
    assert_eq!(beside, 1, "the server left its share");
}

/// Sends all records; `None` if the host or the server has enough.
fn speak(stream: &UnixStream, data: &[u8]) -> Option<()> {
    let memory = File::from(memfd_create("guest", MFdFlags::MFD_CLOEXEC).ok()?);
    // As long as a file can be: a page that a VMM maps beyond the end of its file ends the process
    // with SIGBUS, which is why this server has one of its own.
    memory.set_len(i64::MAX as u64).ok()?;
    let events = [
        EventFd::new(EFD_NONBLOCK).ok()?,
        EventFd::new(EFD_NONBLOCK).ok()?,
    ];
    let odd = File::open("/dev/null").ok()?;
    let files: [RawFd; FILES] = [
        memory.as_raw_fd(),
        events[0].as_raw_fd(),
        events[1].as_raw_fd(),
        odd.as_raw_fd(),
    ];
    let mut rest = data;
    while let Some((&[kind, flags, len], tail)) = rest.split_first_chunk::<3>() {
        let (body, next) = tail.split_at(usize::from(len).min(tail.len()));
        rest = next;
        match kind {
            MEMORY => {
                if let Some((at, bytes)) = body.split_first_chunk::<2>() {
                    let at = u64::from(u16::from_le_bytes(*at)) * 16;
                    memory.write_at(bytes, at % (RAM - 256)).ok()?;
                }
            }
            KICK => {
                for event in &events {
                    event.write(1).ok()?;
                }
            }
            kind => send(stream, u32::from(kind), flags, body, &files)?,
        }
    }
    Some(())
}

/// Sends one message. Header: request, flags (bits 0 and 1 are the version, 1; bit 3 asks for a
/// reply), size; 32 bits each.
fn send(
    stream: &UnixStream,
    request: u32,
    flags: u8,
    body: &[u8],
    files: &[RawFd; FILES],
) -> Option<()> {
    let has = |bit: u8| flags & bit != 0;
    let version = if has(0x40) { 2 } else { 1 };
    let reply = if has(0x10) { 8 } else { 0 };
    let size = body.len() as u32 * if has(0x20) { 256 } else { 1 };
    let mut message = Vec::new();
    for word in [request, version | reply, size] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    message.extend_from_slice(body);
    let first = usize::from(flags >> 2 & 3);
    let sent: Vec<RawFd> = files
        .iter()
        .cycle()
        .skip(first)
        .take(usize::from(flags & 3))
        .copied()
        .collect();
    let rights = [ControlMessage::ScmRights(&sent)];
    let control = if sent.is_empty() { &[][..] } else { &rights };
    let parts = [IoSlice::new(&message)];
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(stream.as_raw_fd(), &parts, control, flags, None).ok()?;
    Some(())
}
