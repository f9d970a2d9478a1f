//! Requests that only a broken or hostile guest sends.

use boxbuild_vmm_driver::Buffer;
use proptest::prelude::*;
use vm_memory::ByteValued;

use super::driver::Driver;
use crate::descriptor::ChainError;
use crate::fuse::abi::{self, ROOT_ID, opcode};
use crate::server::ServerError;

#[test]
fn versions_are_agreed_upon() {
    let guest = Driver::new();
    assert_eq!(guest.init(7, 45).unwrap().minor, 38);
    assert_eq!(guest.init(7, 31).unwrap().max_write, 1 << 20);
    assert_eq!(guest.init(8, 0).unwrap().major, 7);
    assert_eq!(guest.init(6, 0).unwrap_err(), libc::EPROTO);
    assert_eq!(guest.init(7, 8).unwrap_err(), libc::EPROTO);
}

#[test]
fn unknown_requests_are_not_implemented() {
    let guest = Driver::new();
    for code in [0, 7, 31, 40, 48, 52, 4096, u32::MAX] {
        assert_eq!(
            guest.call(code, ROOT_ID, &[b"12345678"]),
            Err(libc::ENOSYS),
            "{code}"
        );
    }
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    let guest = Driver::new();
    std::fs::write(guest.dir.path().join("victim"), "secret").unwrap();
    let sub = guest.mkdir(ROOT_ID, c"sub", 0o755).unwrap().nodeid;
    for name in [
        c"..",
        c".",
        c"",
        c"../victim",
        c"/etc/passwd",
        c"sub/../../victim",
    ] {
        assert_eq!(guest.lookup(sub, name).unwrap_err(), libc::EINVAL);
        assert_eq!(guest.unlink(ROOT_ID, name).unwrap_err(), libc::EINVAL);
        assert_eq!(guest.mkdir(ROOT_ID, name, 0o755).unwrap_err(), libc::EINVAL);
        assert_eq!(
            guest.create(ROOT_ID, name, 0o644, 0).unwrap_err(),
            libc::EINVAL
        );
        assert_eq!(
            guest.mknod(ROOT_ID, name, libc::S_IFREG, 0).unwrap_err(),
            libc::EINVAL
        );
        assert_eq!(
            guest.symlink(ROOT_ID, name, c"x").unwrap_err(),
            libc::EINVAL
        );
        let names = [(ROOT_ID, name), (ROOT_ID, c"sub")];
        assert_eq!(guest.rename(names[0], names[1], 0), Err(libc::EINVAL));
        assert_eq!(guest.rename(names[1], names[0], 0), Err(libc::EINVAL));
        let link = abi::LinkIn { oldnodeid: sub };
        let body = [link.as_slice(), name.to_bytes_with_nul()];
        assert_eq!(guest.call(opcode::LINK, ROOT_ID, &body), Err(libc::EINVAL));
        assert_eq!(
            guest.call(opcode::RMDIR, ROOT_ID, &body[1..]),
            Err(libc::EINVAL)
        );
    }
    assert_eq!(
        std::fs::read(guest.dir.path().join("victim")).unwrap(),
        b"secret"
    );
    let long = std::ffi::CString::new(vec![b'x'; 256]).unwrap();
    assert_eq!(
        guest.lookup(ROOT_ID, &long).unwrap_err(),
        libc::ENAMETOOLONG
    );
    // Without a NUL, and with one in the middle.
    assert_eq!(
        guest.call(opcode::LOOKUP, ROOT_ID, &[b"sub"]),
        Err(libc::EINVAL)
    );
    assert_eq!(
        guest.call(opcode::LOOKUP, ROOT_ID, &[b"sub\0more\0"]),
        Err(libc::EINVAL)
    );
}

#[test]
fn symbolic_links_lead_nowhere() {
    let guest = Driver::new();
    std::os::unix::fs::symlink("/etc", guest.host("etc")).unwrap();
    let link = guest.lookup(ROOT_ID, c"etc").unwrap();
    assert_eq!(link.attr.mode & libc::S_IFMT, libc::S_IFLNK);
    assert_eq!(
        guest.lookup(link.nodeid, c"passwd").unwrap_err(),
        libc::ENOTDIR
    );
    assert_eq!(
        guest.create(link.nodeid, c"x", 0o644, 0).unwrap_err(),
        libc::ENOTDIR
    );
    assert_eq!(
        guest.create(ROOT_ID, c"etc", 0o644, 0).unwrap_err(),
        libc::EEXIST
    );
}

#[test]
fn numbers_that_were_never_given_are_refused() {
    let guest = Driver::new();
    let (file, fh) = guest.create(ROOT_ID, c"f", 0o644, 0).unwrap();
    for node in [0, 2_000, u64::MAX] {
        assert_eq!(guest.getattr(node).unwrap_err(), libc::ENOENT);
        assert_eq!(guest.lookup(node, c"f").unwrap_err(), libc::ENOENT);
        assert_eq!(guest.read(node, fh, 0, 1), Err(libc::EBADF));
    }
    for handle in [0, fh + 1, u64::MAX] {
        assert_eq!(guest.read(file.nodeid, handle, 0, 1), Err(libc::EBADF));
        assert_eq!(
            guest.write(file.nodeid, handle, 0, b"x", 0),
            Err(libc::EBADF)
        );
    }
    // Offsets that no file has.
    for offset in [u64::MAX, 1 << 63] {
        assert_eq!(guest.read(file.nodeid, fh, offset, 1), Err(libc::EINVAL));
        assert_eq!(
            guest.write(file.nodeid, fh, offset, b"x", 0),
            Err(libc::EINVAL)
        );
    }
    // A file is no directory.
    let read = abi::ReadIn {
        fh,
        size: 4096,
        ..Default::default()
    };
    let error = guest.call(opcode::READDIR, file.nodeid, &[read.as_slice()]);
    assert_eq!(error, Err(libc::ENOTDIR));
}

#[test]
fn sizes_that_do_not_fit_the_request_are_refused() {
    let guest = Driver::new();
    let (file, fh) = guest.create(ROOT_ID, c"f", 0o644, 0).unwrap();
    for size in [4, 1 << 20, u32::MAX] {
        let write = abi::WriteIn {
            fh,
            size,
            ..Default::default()
        };
        let error = guest.call(opcode::WRITE, file.nodeid, &[write.as_slice(), b"abc"]);
        assert_eq!(error, Err(libc::EINVAL));
        let set = abi::SetxattrIn { size, flags: 0 };
        let ext = abi::SetxattrExtIn::default();
        let body = [set.as_slice(), ext.as_slice(), b"user.a\0", b"abc"];
        assert!(guest.call(opcode::SETXATTR, file.nodeid, &body).is_err());
    }
    let batch = abi::BatchForgetIn {
        count: u32::MAX,
        dummy: 0,
    };
    let one = abi::ForgetOne {
        nodeid: file.nodeid,
        nlookup: u64::MAX,
    };
    let header = guest.header(opcode::BATCH_FORGET, 0, 24);
    let parts = [header.as_slice(), batch.as_slice(), one.as_slice()];
    assert_eq!(guest.raw(&parts, &[]).unwrap(), 0);
    assert_eq!(guest.getattr(file.nodeid).unwrap_err(), libc::ENOENT);
}

#[test]
fn broken_chains_are_errors() {
    let guest = Driver::new();
    let header = guest.header(opcode::GETATTR, ROOT_ID, 16);
    let body = abi::GetattrIn::default();
    // Too short for a header, for what the header says, and for a reply.
    let short = guest.raw(&[&header.as_slice()[..20]], &[64]);
    assert!(matches!(
        short,
        Err(ServerError::Chain(ChainError::Short { .. }))
    ));
    let short = guest.raw(&[header.as_slice()], &[64]);
    assert!(matches!(short, Err(ServerError::Length { .. })));
    for room in [&[][..], &[8], &[64]] {
        let short = guest.raw(&[header.as_slice(), body.as_slice()], room);
        assert!(
            matches!(short, Err(ServerError::Chain(ChainError::Short { .. }))),
            "{room:?}"
        );
    }
    let lying = abi::InHeader { len: 10, ..header };
    let error = guest.raw(&[lying.as_slice(), body.as_slice()], &[200]);
    assert!(matches!(error, Err(ServerError::Length { .. })));
    // More buffers than any queue has entries.
    for (buffers, long) in [(1024, false), (1025, true), (65_535, true)] {
        let error = guest.table(buffers);
        let is_long = matches!(error, Err(ServerError::Chain(ChainError::Long)));
        assert!(error.is_err() && is_long == long, "{buffers}: {error:?}");
    }
    // Outside of memory, and in the wrong order.
    let outside = Buffer::readable(1 << 40, 64);
    assert!(matches!(
        guest.chain(&[outside]),
        Err(ServerError::Chain(ChainError::Memory(_)))
    ));
    let wrong = [
        Buffer::writable(0x30_0000, 64),
        Buffer::readable(0x10_0000, 64),
    ];
    assert!(matches!(
        guest.chain(&wrong),
        Err(ServerError::Chain(ChainError::Order))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a guest sends, there is an answer.
    #[test]
    fn no_request_breaks_the_server(
        requests in proptest::collection::vec(
            (0_u32..53, 0_u64..4, proptest::collection::vec(
                prop_oneof![Just(0_u8), Just(1), Just(b'a'), Just(b'/'), any::<u8>()], 0..120,
            )),
            1..40,
        ),
    ) {
        let guest = Driver::new();
        guest.create(ROOT_ID, c"a", 0o644, 0).unwrap();
        for (code, node, body) in requests {
            let header = guest.header(code, node, body.len());
            let _ = guest.raw(&[header.as_slice(), &body], &[16, 4096]);
        }
        // And nothing happened beside the share.
        let beside: Vec<_> = std::fs::read_dir(guest.dir.path()).unwrap().collect();
        prop_assert_eq!(beside.len(), 1);
    }
}
