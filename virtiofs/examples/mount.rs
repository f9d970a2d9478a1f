//! Mounts a directory through the server with this machine's own FUSE client, without a guest.
//!
//! For conformance tests (pjdfstest, fsx) and profiling, as root:
//! `mount SHARE MOUNTPOINT [UID]` serves SHARE as host user UID (default: root) until it is
//! unmounted. The kernel's requests are put into descriptor chains as a guest would.

#![allow(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use boxbuild_virtiofs::{MountTag, PassthroughFs, Server, Share, confine_thread};
use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
use rustix::mount::MountFlags;
use virtio_queue::QueueT;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const REQUEST: u64 = 0x10_0000;
const REPLY: u64 = 0x30_0000;
/// 1 MiB of data and room for headers.
const BUFFER: usize = (1 << 20) + 4096;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (share, target) = args
        .next()
        .zip(args.next())
        .ok_or("usage: mount SHARE DIR [UID]")?;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        device.as_raw_fd()
    );
    let options = CString::new(options)?;
    let flags = MountFlags::empty();
    rustix::mount::mount("boxbuild", target, "fuse", flags, Some(options.as_c_str()))?;
    if let Some(uid) = args.next() {
        let uid: u32 = uid.parse()?;
        nix::unistd::setgroups(&[])?;
        nix::unistd::setgid(uid.into())?;
        nix::unistd::setuid(uid.into())?;
    }
    let share = Share::new(MountTag::new("share")?, share);
    let server = Arc::new(Server::new(PassthroughFs::new(share)?));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let server = Arc::clone(&server);
            let device = device.try_clone();
            std::thread::spawn(move || {
                let confinement = confine_thread(server.file_system()).expect("confined");
                eprintln!("confinement: {confinement:?}");
                if let Err(error) = device.and_then(|device| serve(&server, device)) {
                    eprintln!("ended: {error}");
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("no panic"));
    Ok(())
}

fn serve(server: &Server<PassthroughFs>, mut device: std::fs::File) -> std::io::Result<()> {
    let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x60_0000)])
        .map_err(std::io::Error::other)?;
    let (mut request, mut reply) = (vec![0; BUFFER], vec![0; BUFFER]);
    let layout = QueueLayout::new(GuestAddress(0), 16).map_err(std::io::Error::other)?;
    let mut driver = DriverQueue::new(layout);
    let mut queue = driver.device_queue().map_err(std::io::Error::other)?;
    loop {
        let len = match device.read(&mut request) {
            Ok(len) => len,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error),
        };
        memory
            .write_slice(&request[..len], GuestAddress(REQUEST))
            .map_err(std::io::Error::other)?;
        let buffers = [
            Buffer::readable(REQUEST, len as u32),
            Buffer::writable(REPLY, BUFFER as u32),
        ];
        driver
            .add(&memory, &buffers)
            .map_err(std::io::Error::other)?;
        let Some(chain) = queue.pop_descriptor_chain(&memory) else {
            return Err(std::io::Error::other("no chain"));
        };
        let head = chain.head_index();
        let len = server
            .handle(&memory, chain)
            .map_err(std::io::Error::other)?;
        queue
            .add_used(&memory, head, len)
            .map_err(std::io::Error::other)?;
        driver.next_used(&memory).map_err(std::io::Error::other)?;
        let len = len as usize;
        if len > 0 {
            memory
                .read_slice(&mut reply[..len], GuestAddress(REPLY))
                .map_err(std::io::Error::other)?;
            if let Err(error) = device.write_all(&reply[..len])
                && error.raw_os_error() != Some(libc::ENOENT)
            {
                return Err(error);
            }
        }
    }
}
