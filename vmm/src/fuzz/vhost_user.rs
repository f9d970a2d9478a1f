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

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Writes the seeds. They are kept in the repository; run it by hand when the format changes:
    /// `cargo test -p boxbuild-vmm --lib vhost_user_seeds -- --ignored`.
    #[test]
    #[ignore = "writes files of the repository"]
    fn vhost_user_seeds() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/vhost_user");
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &str, records: &[Vec<u8>]| {
            std::fs::write(dir.join(name), records.concat()).unwrap();
        };
        let start = start();
        write("features", &start);
        write("memory", &[start.clone(), vec![map()]].concat());
        let queue = queue(1);
        let mounted = [start.clone(), vec![map()], queue.clone(), init()].concat();
        write("init", &mounted);
        let again = [
            mounted.clone(),
            vec![message(11, 0, &words(&[1, 0]))],
            queue,
        ];
        write("restart", &again.concat());
        write("slots", &[start, slots()].concat());
        write("unknown", &[mounted, unknown()].concat());
    }

    fn message(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, flags, body.len() as u8][..], body].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn longs(longs: &[u64]) -> Vec<u8> {
        longs.iter().flat_map(|long| long.to_le_bytes()).collect()
    }

    /// Owner and features: VERSION_1, EVENT_IDX, INDIRECT_DESC, PROTOCOL_FEATURES; MQ, REPLY_ACK,
    /// CONFIGURE_MEM_SLOTS.
    fn start() -> Vec<Vec<u8>> {
        let features = 1 << 32 | 1 << 29 | 1 << 28 | 1 << 30;
        vec![
            message(1, 0, &[]),
            message(3, 0, &[]),
            message(15, 0, &[]),
            message(16, 0, &longs(&[1 | 1 << 3 | 1 << 15])),
            message(17, 0, &[]),
            message(2, 0x10, &longs(&[features])),
        ]
    }

    /// One region: guest address, size, user address, offset in its file.
    fn map() -> Vec<u8> {
        let table = [words(&[1, 0]), longs(&[0, super::RAM, 0x1000_0000, 0])].concat();
        message(5, 0x11, &table)
    }

    /// Number, base, addresses of the rings, events, and enabled.
    fn queue(index: u32) -> Vec<Vec<u8>> {
        let base = 0x1000_0000;
        let addresses = longs(&[base, base + 0x2000, base + 0x1000, 0]);
        let event = longs(&[u64::from(index)]);
        vec![
            message(8, 0, &words(&[index, 16])),
            message(10, 0, &words(&[index, 0])),
            message(9, 0, &[words(&[index, 0]), addresses].concat()),
            message(13, 0x09, &event),
            message(12, 0x05, &event),
            message(18, 0x10, &words(&[index, 1])),
        ]
    }

    /// A request in the ring: INIT, in a chain of two.
    fn init() -> Vec<Vec<u8>> {
        let memory = |at: u16, bytes: &[u8]| {
            let at = (at / 16).to_le_bytes();
            message(super::MEMORY, 0, &[&at[..], bytes].concat())
        };
        let descriptor = |address: u64, len: u32, flags: u16, next: u16| {
            let ends = [flags.to_le_bytes(), next.to_le_bytes()].concat();
            [longs(&[address]), words(&[len]), ends].concat()
        };
        let table = [descriptor(0x4000, 56, 1, 1), descriptor(0x5000, 256, 2, 0)];
        let request = [
            words(&[56, 26]),
            longs(&[2, 1]),
            vec![0; 16],
            words(&[7, 38, 0, 0]),
        ];
        vec![
            memory(0, &table.concat()),
            memory(0x4000, &request.concat()),
            memory(0x1000, &[0, 0, 1, 0, 0, 0]),
            message(super::KICK, 0, &[]),
            message(1, 0x10, &[]),
        ]
    }

    /// Regions added and removed one by one.
    fn slots() -> Vec<Vec<u8>> {
        let region = longs(&[0, 0, super::RAM / 2, 0x1000_0000, 0]);
        let upper = longs(&[
            0,
            super::RAM / 2,
            super::RAM / 2,
            0x2000_0000,
            super::RAM / 2,
        ]);
        vec![
            message(36, 0, &[]),
            message(37, 0x11, &region),
            message(37, 0x11, &upper),
            message(38, 0x10, &region),
            message(38, 0x10, &region),
        ]
    }

    fn unknown() -> Vec<Vec<u8>> {
        (19..36)
            .chain(39..48)
            .map(|kind| message(kind, 0x11, &longs(&[u64::from(kind), 0])))
            .collect()
    }
}
