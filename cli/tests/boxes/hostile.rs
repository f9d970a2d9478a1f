//! Servers that are after the host's disk, memory, time and network; and other users of the host, who
//! get in the way.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use boxbuild_boxes::box_lock::{BoxLock, DiskAccess};
use boxbuild_jail::Confinement;
use nix::fcntl::{Flock, FlockArg};

use crate::sandbox::{CommandResult, Sandbox};
use crate::server::{Fault, Server};
use crate::sets::{Set, disk_name, disk_path, kernel_path, noise, sha256};

/// Runs boxbuild with the store on a file system of so many MiB. Returns what it says, and the free
/// space afterwards, in KiB; `None` where a test cannot mount anything.
fn on_small_disk(sandbox: &Sandbox, mib: u32, args: &[&str]) -> Option<(CommandResult, u64)> {
    let script = "mount -t tmpfs -o size=$1m tmpfs \"$2\" || exit 99; folder=$2; shift 2; \
         \"$@\"; code=$?; df -k --output=avail \"$folder\" | tail -n 1; exit $code";
    fs::create_dir_all(sandbox.root()).unwrap();
    let (mib, root) = (mib.to_string(), sandbox.root());
    let unshare = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
    ];
    let wrapper = [&unshare[..], &[&mib, root.to_str()?]].concat();
    let output = sandbox.command_under(&wrapper, args).output().ok()?;
    if output.status.code() == Some(99) || output.status.code() == Some(1) {
        return None;
    }
    let result = CommandResult::from(output);
    let free = result.stdout.lines().last()?.trim().parse().ok()?;
    Some((result, free))
}

fn skip(name: &str) {
    eprintln!("skipped: {name}: this host allows no mount in a namespace of a test's own");
}

/// Fault 19.
#[test]
fn an_answer_without_a_length_does_not_fill_the_disk() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 10_000);
    set.disk = vec![7; 80 << 20];
    set.publish(&sandbox.server);
    sandbox.server.fault(&disk_path(), None, Fault::NoLength);
    let Some((result, free)) = on_small_disk(&sandbox, 64, &["box", "pull", "test"]) else {
        return skip("an_answer_without_a_length_does_not_fill_the_disk");
    };
    result.expect(3, &["but for a reserve", "KIWI_BOXED_CACHE_DIR"]);
    // One part in 16 is left.
    assert!(free >= 4 << 10, "{free}");
}

/// An image of version 3 with clusters of 2 MiB, in which a table of 512 GiB refers to one compressed
/// cluster again and again.
fn endless_disk() -> Vec<u8> {
    const CLUSTER: usize = 2 << 20;
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &21_u32.to_be_bytes());
    put(24, &(512_u64 << 30).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(CLUSTER as u64).to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(CLUSTER, &((1 << 63) | (2 * CLUSTER as u64)).to_be_bytes());
    let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    deflate.write_all(&vec![1; CLUSTER]).unwrap();
    let packed = deflate.finish().unwrap();
    let sectors = (packed.len() / 512 + 1) as u64;
    let entry = (1 << 62) | (sectors << (62 - (21 - 8))) | (3 * CLUSTER as u64);
    for at in 0..CLUSTER / 8 {
        put(2 * CLUSTER + at * 8, &entry.to_be_bytes());
    }
    put(3 * CLUSTER, &packed);
    image
}

/// Fault 23.
#[test]
fn a_small_disk_is_not_unpacked_without_end() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 10_000);
    set.disk = endless_disk();
    set.publish(&sandbox.server);
    let start = Instant::now();
    let pull = ["box", "pull", "test"];
    // On a disk of its own: it was filled up.
    let Some((result, free)) = on_small_disk(&sandbox, 64, &pull) else {
        return skip("a_small_disk_is_not_unpacked_without_end");
    };
    result.expect(3, &["more data than its file can hold"]);
    assert!(free > 32 << 10, "{free}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// Fault 23: free space is looked at before a disk is unpacked.
#[test]
fn a_disk_that_does_not_fit_is_not_unpacked() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 10_000);
    let Some(packed) = crate::sets::compressed(&crate::sets::qcow2(&vec![7; 80 << 20])) else {
        eprintln!("skipped: a_disk_that_does_not_fit_is_not_unpacked: no qemu-img");
        return;
    };
    set.disk = packed;
    set.publish(&sandbox.server);
    let Some((result, free)) = on_small_disk(&sandbox, 64, &["box", "pull", "test"]) else {
        return skip("a_disk_that_does_not_fit_is_not_unpacked");
    };
    result.expect(3, &["it takes 80 MiB", "KIWI_BOXED_CACHE_DIR"]);
    assert!(free > 32 << 10, "{free}");
}

/// Fault 20.
#[test]
fn a_long_name_in_the_archive_is_refused() {
    let sandbox = Sandbox::new();
    let mut set = Set::new(1, 10_000);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(3 << 30);
    header.set_cksum();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::repeat(b'a').take(300 << 20), &mut xz).unwrap();
    set.kernel_archive = xz.finish().unwrap();
    set.publish(&sandbox.server);
    let start = Instant::now();
    sandbox
        .run(&["box", "pull", "test"])
        .expect(3, &["archive", "take more than 256 KiB"]);
    assert!(start.elapsed() < Duration::from_secs(60));
}

/// An archive of some hundred KiB that takes long to unpack: 4 GiB of zeros in one member.
fn endless_archive() -> Vec<u8> {
    const PART: usize = 64 << 20;
    let packed = |bytes: &[u8]| {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(bytes).unwrap();
        xz.finish().unwrap()
    };
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(4 << 30);
    header.set_cksum();
    // Streams one after the other are one.
    let zeros = packed(&vec![0; PART]);
    [packed(header.as_bytes()), zeros.repeat((4 << 30) / PART)].concat()
}

#[test]
fn nothing_is_looked_at_before_its_checksum_is_right() {
    let set = Set::new(1, 50_000);
    for (path, wrong) in [
        (kernel_path(), endless_archive()),
        (disk_path(), endless_disk()),
    ] {
        let sandbox = Sandbox::new();
        set.publish(&sandbox.server);
        sandbox.server.put(&path, wrong);
        // Neither this process nor one that it starts has the time to read them.
        let limited = ["prlimit", "--cpu=3:3"];
        let mut command = sandbox.command_under(&limited, &["box", "pull", "test"]);
        let result = CommandResult::from(command.output().unwrap());
        result.expect(3, &["wrong checksum"]);
    }
    let sandbox = Sandbox::new();
    set.publish(&sandbox.server);
    // What arrives in pieces is unpacked as a whole.
    sandbox
        .server
        .fault(&kernel_path(), Some(1), Fault::Truncate(20_000));
    sandbox
        .server
        .fault(&kernel_path(), Some(1), Fault::Reset(20_000));
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&set));
    let installed = sandbox.installed();
    let kernel = fs::read(installed.path(&installed.info.kernel)).unwrap();
    assert_eq!(sha256(&kernel), sha256(&noise(101, 50_000)));
}

/// A redirect of a public server to this host. The tests' server is the proxy as well, so that the
/// public server is reached by any name.
#[test]
fn a_public_server_does_not_lead_to_this_host() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 10_000);
    let inside = Server::start();
    set.publish_at(&inside, "/r");
    sandbox.configure("http://boxes.example/r");
    let pull = || {
        let mut command = sandbox.command(&["box", "pull", "test"]);
        command.env("http_proxy", sandbox.server.url());
        command.env("no_proxy", "127.0.0.1");
        CommandResult::from(command.output().unwrap())
    };
    set.publish_at(&sandbox.server, "http://boxes.example/r");
    let files = [disk_path(), format!("{}.sha256", disk_path())];
    for path in &files {
        let from = format!("http://boxes.example{path}");
        let to = format!("{}{path}", inside.url());
        sandbox.server.fault(&from, None, Fault::Redirect(to));
        pull().expect(3, &["127.0.0.1", "inside of your network"]);
        assert!(inside.take_requests().is_empty());
        sandbox.server.no_faults();
    }
    // Elsewhere is allowed.
    let from = format!("http://boxes.example{}", disk_path());
    let to = format!("http://mirror.example/{}", disk_name());
    sandbox.server.put(&to, set.disk.clone());
    sandbox.server.fault(&from, None, Fault::Redirect(to));
    pull().expect(0, &[]);
    assert!(sandbox.has(&set));
}

/// The beginning of what a server sends in place of a checksum stands in the message.
#[test]
fn a_servers_text_does_not_command_the_terminal() {
    let sandbox = Sandbox::new();
    Set::new(1, 10_000).publish(&sandbox.server);
    // A title, a screen that is cleared in two ways, a line that is written over, text from right to left.
    let text = "\x1b]0;owned\x07\x1b[2J\u{9b}2J\rover\u{202e}page";
    let path = format!("{}.sha256", disk_path());
    sandbox.server.put(&path, text);
    let pull = sandbox.run(&["box", "pull", "test"]);
    let shown = format!("{}{}", pull.stdout, pull.stderr);
    let harmful = |char: char| char != '\n' && char.is_control() || char == '\u{202e}';
    assert!(!shown.contains(harmful), "{shown:?}");
    pull.expect(3, &["it begins with", "page"]);
}

/// Fault 28: any user of the host could lock what everyone can read, and builds waited for ever.
#[test]
fn locks_of_other_users_are_not_in_the_way() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 10_000);
    set.publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    drop(BoxLock::take(&sandbox.installed(), DiskAccess::Write).unwrap());
    let dir = sandbox.installed().dir;
    let fetch = sandbox
        .root()
        .join(format!(".fetch-{}", dir.file_name().unwrap().display()));
    fs::create_dir(&fetch).unwrap();
    // What any user can open.
    let mut readable = vec![sandbox.root(), dir.clone(), fetch];
    readable.extend(
        fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    readable.retain(|path| fs::metadata(path).unwrap().mode() & 0o004 != 0);
    assert!(readable.len() > 5, "{readable:?}");
    let locks: Vec<_> = readable
        .iter()
        .map(|path| {
            Flock::lock(File::open(path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap()
        })
        .collect();
    let start = Instant::now();
    for args in [&["box", "list"][..], &["box", "pull", "test", "--force"]] {
        let mut command = sandbox.command_under(&["timeout", "20"], args);
        CommandResult::from(command.output().unwrap()).expect(0, &[]);
    }
    let installed = sandbox.installed();
    drop(BoxLock::take(&installed, DiskAccess::Read).unwrap());
    drop(BoxLock::take(&installed, DiskAccess::Write).unwrap());
    assert!(start.elapsed() < Duration::from_secs(20));
    drop(locks);
    // Our own locks still exclude each other.
    let reading = BoxLock::take(&installed, DiskAccess::Read).unwrap();
    assert!(BoxLock::take(&installed, DiskAccess::Read).is_ok());
    assert!(BoxLock::take(&installed, DiskAccess::Write).is_err());
    drop(reading);
}

#[test]
fn an_option_insists_on_a_confined_reader() {
    let sandbox = Sandbox::new();
    Set::new(1, 10_000).publish(&sandbox.server);
    fs::write(sandbox.path("work/disk"), [0; 1 << 20]).unwrap();
    fs::write(sandbox.path("work/kernel"), "a kernel").unwrap();
    let import = ["box", "import", "x", "--disk=disk", "--kernel=kernel"];
    for args in [&["box", "pull", "test"][..], &import] {
        let result = sandbox.run(&[args, &["--require-confinement"]].concat());
        if Confinement::of_host().weakness().is_some() {
            result.expect(3, &["cannot confine", "--require-confinement"]);
        } else {
            result.expect(0, &[]);
        }
    }
}

/// Fault 29, for the files that boxbuild reads before a build.
#[test]
fn configuration_that_never_ends_is_refused() {
    let sandbox = Sandbox::new();
    let work = |name: &str| sandbox.path("work").join(name);
    symlink("/dev/zero", work("boxbuild.lock")).unwrap();
    symlink("/dev/zero", work("zero")).unwrap();
    let limited = |args: &[&str], list: &str| {
        let mut command = sandbox.command_under(&["timeout", "20"], args);
        command.env("KIWI_BOXED_PLUGIN_CFG", list);
        CommandResult::from(command.output().unwrap())
    };
    let list = sandbox.path("boxes.yml");
    let list = list.to_str().unwrap();
    limited(&["box", "list"], "/dev/zero").expect(2, &["not a regular file"]);
    let locked = ["box", "pull", "test", "--locked"];
    limited(&locked, list).expect(2, &["not a regular file"]);
    let signed = ["box", "pull", "test", "--signed-by", "zero"];
    limited(&signed, list).expect(2, &["not a regular file"]);
    limited(&["batch", "zero"], list).expect(2, &["not a regular file"]);
    fs::write(work("kernel"), "a kernel").unwrap();
    let import = ["box", "import", "x", "--disk", "zero", "--kernel", "kernel"];
    limited(&import, list).expect(2, &["not a regular file"]);
    let import = [
        "box", "import", "x", "--rootfs", "zero", "--kernel", "kernel",
    ];
    let result = limited(&import, list);
    if !result.stderr.contains("not installed") && !result.stderr.contains("subordinate ids") {
        result.expect(2, &["not a regular file"]);
    }
}
