//! Boxes to publish.

use std::io::{Read, Write};

use boxbuild_host::arch::Arch;
use boxbuild_host::digest::hex;
use boxbuild_vmm::disk::Image;
use sha2::{Digest, Sha256, Sha512};

use crate::server::Server;

/// The files of one version of the box `test`.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) kernel_archive: Vec<u8>,
    pub(crate) disk: Vec<u8>,
}

/// Name of the archive with the kernel.
pub(crate) fn kernel_name() -> String {
    format!("Test-Box.{}-Kernel.tar.xz", Arch::host())
}

/// Name of the disk.
pub(crate) fn disk_name() -> String {
    format!("Test-Box.{}-System.qcow2", Arch::host())
}

/// Path of the archive with the kernel on the server.
pub(crate) fn kernel_path() -> String {
    format!("/r/{}", kernel_name())
}

/// Path of the disk on the server.
pub(crate) fn disk_path() -> String {
    format!("/r/{}", disk_name())
}

/// The configuration that lists the box `test`, published at `source`.
pub(crate) fn config(source: &str) -> String {
    format!(
        "box:\n  - name: test\n    mem_mb: 4096M\n    processors: 2\n    console: hvc0\n    arch:\n\
         \x20     - name: {}\n        cmdline: [root=/dev/vda1, rd.plymouth=0]\n        \
         source: {source}\n        packages_file: Test-Box.{}-System.json\n        \
         boxfiles: [{}, {}]\n        container: localhost/test:latest\n        use_initrd: true\n",
        Arch::host(),
        Arch::host(),
        kernel_name(),
        disk_name()
    )
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn sha512(bytes: &[u8]) -> String {
    hex(&Sha512::digest(bytes))
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut block = Sha256::digest([seed]);
    while bytes.len() < len {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes.truncate(len);
    bytes
}

impl Set {
    /// A version with `size` bytes on its disk, and as many in its archive.
    pub(crate) fn new(seed: u8, size: usize) -> Set {
        Set {
            kernel_archive: archive(&noise(seed.wrapping_add(100), size)),
            disk: qcow2(&noise(seed, size)),
        }
    }

    /// Makes it what the server has at `/r/`.
    pub(crate) fn publish(&self, server: &Server) {
        self.publish_at(server, "/r");
    }

    pub(crate) fn publish_at(&self, server: &Server, folder: &str) {
        for (name, bytes) in self.files() {
            let versioned = name
                .replace("-Kernel", "-1.2.3-Kernel")
                .replace("-System", "-1.2.3-System");
            server.put(
                &format!("{folder}/{name}.sha256"),
                format!("{}  {versioned}\n", sha256(bytes)),
            );
            server.put(&format!("{folder}/{name}"), bytes.to_vec());
        }
        server.put(
            &format!("{folder}/Test-Box.{}-System.json", Arch::host()),
            "{}",
        );
    }

    /// Names and contents.
    pub(crate) fn files(&self) -> [(String, &[u8]); 2] {
        [
            (kernel_name(), &self.kernel_archive),
            (disk_name(), &self.disk),
        ]
    }
}

/// An archive with `kernel` and an initrd.
pub(crate) fn archive(kernel: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("Test-Box.1.2.3.kernel", kernel),
        ("Test-Box.1.2.3.initrd", b"the initrd"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    }
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(&tar.into_inner().unwrap()).unwrap();
    xz.finish().unwrap()
}

/// A qcow2 image of a disk with `content` at its beginning.
pub(crate) fn qcow2(content: &[u8]) -> Vec<u8> {
    let mut raw = tempfile::tempfile().unwrap();
    raw.write_all(content).unwrap();
    raw.set_len((content.len() as u64).next_multiple_of(1 << 20))
        .unwrap();
    let mut bytes = Vec::new();
    Image::new(raw).unwrap().write_plain(&mut bytes).unwrap();
    bytes
}

/// The same image, compressed; nothing without `qemu-img`.
pub(crate) fn compressed(disk: &[u8]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (dir.path().join("a"), dir.path().join("b"));
    std::fs::write(&plain, disk).unwrap();
    let done = std::process::Command::new("qemu-img")
        .args(["convert", "-c", "-O", "qcow2"])
        .args([&plain, &packed])
        .status();
    if !done.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(packed)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    Some(bytes)
}
