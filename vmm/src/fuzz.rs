//! What a hostile guest can send to a device: bodies for fuzzers, and tests that replay a
//! committed corpus and some thousand mutations of it (docs/fuzzing.md).
//!
//! Each takes any bytes, makes rings, requests or frames of them, and lets the device answer.
//! Whatever they are, it returns: a panic or a hang is a bug.

mod driver;
mod net;
mod pci;
mod vhost_user;

pub use net::net;
pub use pci::pci;
pub use vhost_user::vhost_user;

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use boxbuild_virtiofs::{MountTag, PassthroughFs, Share};

use crate::disk::RawDisk;
use crate::virtio::block::Block;
use crate::virtio::console::{Console, Port};
use crate::virtio::fs::Fs;

/// Bytes of the disk.
const DISK: u64 = 1 << 20;

/// Any bytes as a message of the DNS, and as the files that say how names are resolved.
pub fn dns(data: &[u8]) {
    crate::net::fuzz_dns(data);
}

/// A guest that drives a disk. `data`: see [`driver`].
pub fn block(data: &[u8]) {
    let Ok(file) = anonymous_file() else { return };
    let Ok(disk) = RawDisk::new(file, false) else {
        return;
    };
    driver::drive(&mut Block::new(Box::new(disk), 1, Arc::new(|_| {})), data);
}

/// A guest that drives both ports of a console and their control queues. `data`: see [`driver`].
pub fn console(data: &[u8]) {
    /// What a control queue and a port may hand on at once.
    const MOST: usize = 64 << 10;
    let output = Box::new(|_, bytes: Vec<u8>| assert!(bytes.len() <= MOST));
    let Ok(mut device) = Console::new(output) else {
        return;
    };
    let input = device.input();
    for port in [Port::Console, Port::Control] {
        input.send(port, b"what the host says");
    }
    driver::drive(&mut device, data);
}

fn anonymous_file() -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.set_len(DISK)?;
    file.write_all(b"first sector")?;
    Ok(file)
}

/// A guest that drives a shared folder. `data`: see [`driver`].
pub fn fs(data: &[u8]) {
    let Ok(dir) = tempfile::tempdir() else { return };
    let root = dir.path().join("root");
    let made = std::fs::create_dir(&root)
        .and_then(|()| std::fs::write(root.join("file"), "content"))
        .and_then(|()| std::fs::create_dir(root.join("folder")));
    if made.is_err() {
        return;
    }
    let Ok(tag) = MountTag::new("share") else {
        return;
    };
    let Ok(fs) = PassthroughFs::new(Share::new(tag, &root)) else {
        return;
    };
    let mut device = Fs::new(fs, 1);
    driver::drive(&mut device, data);
    // Nothing happened beside the share.
    let beside = std::fs::read_dir(dir.path()).map_or(0, Iterator::count);
    assert_eq!(beside, 1, "the guest left its share");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use boxbuild_replay::replay;

    #[test]
    fn block() {
        replay("block", super::block, 3000);
    }

    #[test]
    fn console() {
        replay("console", super::console, 3000);
    }

    #[test]
    fn pci() {
        replay("pci", super::pci, 1500);
    }

    #[test]
    fn fs() {
        replay("fs", super::fs, 1500);
    }

    /// A panic of the server's threads is not one of this.
    #[test]
    fn vhost_user() {
        static PANICS: AtomicUsize = AtomicUsize::new(0);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            if thread
                .name()
                .is_some_and(|name| name.starts_with("virtiofs") || name.starts_with("vring"))
            {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
        replay("vhost_user", super::vhost_user, 600);
        assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn dns() {
        replay("dns", super::dns, 3000);
    }

    #[test]
    fn net() {
        replay("net", super::net, 1500);
    }
}
