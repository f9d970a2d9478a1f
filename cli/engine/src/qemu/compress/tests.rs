//! The host's side over a connection, and the box's program in a Python of the host.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use liblzma::read::XzDecoder;

use super::*;

const LIMITS: Limits = Limits {
    threads: 2,
    memory: 1 << 30,
};

fn start() -> (Compressor, UnixStream) {
    let (compressor, end) = Compressor::start(LIMITS).unwrap();
    end.set_read_timeout(Some(Duration::from_secs(600)))
        .unwrap();
    (compressor, end)
}

/// More than two megabytes that are neither all the same nor noise.
fn content() -> Vec<u8> {
    (0..2_200_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 & (at >> 16) as u8)
        .collect()
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    XzDecoder::new(packed).read_to_end(&mut content).unwrap();
    content
}

/// Everything of a conversation, and the kind of its last frame.
fn listen(stream: &UnixStream, session: u64) -> (Vec<u8>, u32) {
    let mut incoming = stream;
    let mut all = Vec::new();
    loop {
        let frame = read(&mut incoming).unwrap();
        if frame.session != session {
            continue;
        }
        match frame.kind {
            READY => {}
            DATA => all.extend(frame.payload),
            kind => return (all, kind),
        }
    }
}

#[test]
fn orders_are_three_numbers() {
    let order = |preset, blocks| Ok(Order { preset, blocks });
    assert_eq!(Order::parse(b"6 0 0"), order(6, true));
    assert_eq!(Order::parse(b"9 1 1"), order(9 | PRESET_EXTREME, false));
    for bad in [
        "", "6", "6 0", "10 0 0", "6 2 0", "6 0 0 0", "6 0 -1", "a b c",
    ] {
        assert!(Order::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

/// As xz(1) does it: blocks of three dictionaries, or one for all.
#[test]
fn one_thread_makes_one_block() {
    let content = content();
    for (order, blocks) in [(&b"0 0 0"[..], 3), (b"0 0 1", 1), (b"9 0 0", 1)] {
        let (_compressor, end) = start();
        send(&end, BEGIN, 1, order.to_vec()).unwrap();
        for part in content.chunks(FRAME - HEAD) {
            send(&end, DATA, 1, part.to_vec()).unwrap();
        }
        send(&end, END, 1, Vec::new()).unwrap();
        let (packed, kind) = listen(&end, 1);
        assert_eq!(kind, END);
        assert_eq!(unpack(&packed), content);
        // The index is in front of the footer, whose bytes 4 to 7 are its length in words less
        // one; behind its indicator is the number of blocks (the .xz format, 2.1.2 and 4.2).
        let footer = &packed[packed.len() - 12..];
        let words = u32::from_le_bytes(footer[4..8].try_into().unwrap()) as usize + 1;
        let index = packed.len() - 12 - 4 * words;
        assert_eq!(packed[index..index + 2], [0, blocks], "{order:?}");
    }
}

#[test]
fn no_stream_gets_more_memory_than_the_box_has() {
    let order = Order::parse(b"9 0 0").unwrap();
    // One thread of preset 9 takes more than that; it is still done.
    let limits = Limits {
        threads: 64,
        memory: 1 << 20,
    };
    assert!(order.encoder(limits).is_ok());
}

#[test]
fn a_new_conversation_ends_the_one_before() {
    let (_compressor, end) = start();
    send(&end, BEGIN, 1, b"1 0 0".to_vec()).unwrap();
    send(&end, DATA, 1, vec![1; 1000]).unwrap();
    send(&end, BEGIN, 2, b"1 0 0".to_vec()).unwrap();
    send(&end, DATA, 1, vec![1; 1000]).unwrap();
    send(&end, DATA, 2, b"mine".to_vec()).unwrap();
    send(&end, END, 1, Vec::new()).unwrap();
    send(&end, END, 2, Vec::new()).unwrap();
    let (packed, kind) = listen(&end, 2);
    assert_eq!((unpack(&packed).as_slice(), kind), (&b"mine"[..], END));
    send(&end, BEGIN, 3, b"77 0 0".to_vec()).unwrap();
    assert_eq!(listen(&end, 3).1, ERROR);
}

#[test]
fn nonsense_ends_the_connection_and_nothing_else() {
    let mut long = Frame {
        kind: DATA,
        session: 1,
        payload: Vec::new(),
    }
    .encode()
    .unwrap();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut unknown = Frame {
        kind: BEGIN,
        session: 1,
        payload: b"6 0 0".to_vec(),
    }
    .encode()
    .unwrap();
    unknown.extend(
        Frame {
            kind: 99,
            session: 1,
            payload: Vec::new(),
        }
        .encode()
        .unwrap(),
    );
    for bytes in [long, unknown, b"hello, this is no frame at all".to_vec()] {
        let (_compressor, mut end) = start();
        end.write_all(&bytes).unwrap();
        let mut rest = Vec::new();
        end.read_to_end(&mut rest).unwrap();
        assert!(rest.len() <= HEAD, "{rest:?}");
    }
}

/// Frames of any kind, order and content, and what is no frame at all, end with an error: never with
/// a panic, never not at all.
#[test]
fn anything_may_come() {
    let mut noise = 88_172_645_463_325_252_u64;
    let mut some = |below: u64| {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise % below
    };
    for _ in 0..200 {
        let mut bytes = Vec::new();
        for _ in 0..some(20) {
            let frame = match some(4) {
                0 => Frame {
                    kind: BEGIN,
                    session: some(2),
                    payload: format!("{} {} {}", some(4), some(3), some(3)).into_bytes(),
                },
                1 => Frame {
                    kind: BEGIN,
                    session: some(2),
                    payload: (0..some(12)).map(|_| some(256) as u8).collect(),
                },
                _ => Frame {
                    kind: some(7) as u32,
                    session: some(2),
                    payload: (0..some(3000)).map(|_| some(256) as u8).collect(),
                },
            };
            bytes.extend(frame.encode().unwrap());
        }
        if some(4) == 0 {
            bytes.extend((0..some(100)).map(|_| some(256) as u8));
        }
        let (served, mut end) = UnixStream::pair().unwrap();
        end.write_all(&bytes).unwrap();
        end.shutdown(Shutdown::Write).unwrap();
        let reader = std::thread::spawn(move || end.read_to_end(&mut Vec::new()).unwrap());
        assert!(serve(&served, LIMITS, &AtomicBool::new(false)).is_err());
        drop(served);
        reader.join().unwrap();
    }
}

/// Dropped while the box does not read what it is sent.
#[test]
fn it_ends_in_the_middle() {
    let (compressor, end) = start();
    end.set_nonblocking(true).unwrap();
    send(&end, BEGIN, 1, b"0 0 1".to_vec()).unwrap();
    let mut noise = 1_u64;
    let mut some = || {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        noise as u8
    };
    // Until nothing more is taken: the connection is full in both directions.
    loop {
        let payload = (0..FRAME - HEAD).map(|_| some()).collect();
        if send(&end, DATA, 1, payload).is_err() {
            break;
        }
    }
    drop(compressor);
}

/// In the middle of a block, which takes seconds, and in the worst case minutes.
#[test]
fn it_does_not_finish_a_block_first() {
    let content = content();
    let begin = || {
        let (compressor, end) = start();
        send(&end, BEGIN, 1, b"9 1 0".to_vec()).unwrap();
        for part in content[..1_000_000].chunks(FRAME - HEAD) {
            send(&end, DATA, 1, part.to_vec()).unwrap();
        }
        send(&end, END, 1, Vec::new()).unwrap();
        (compressor, end, Instant::now())
    };
    // Three tries: on a busy host, one measurement says little.
    let mut times = Vec::new();
    let in_time = (0..3).any(|_| {
        let (_compressor, end, start) = begin();
        assert_eq!(listen(&end, 1).1, END);
        let whole = start.elapsed();
        let (compressor, _end, start) = begin();
        drop(compressor);
        let stopped = start.elapsed();
        times.push((stopped, whole));
        stopped < whole / 2
    });
    assert!(in_time, "stopped after, whole: {times:?}");
}

/// The box's program in a Python of the host, with a connection in the place of its port.
struct Client {
    _compressor: Compressor,
    end: UnixStream,
    folder: tempfile::TempDir,
}

/// Runs the program's file; descriptor 3 is the port.
const RUN: &str = "import importlib.machinery, importlib.util, os, sys
loader = importlib.machinery.SourceFileLoader('host_xz', sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader('host_xz', loader))
loader.exec_module(module)
os.set_blocking(3, False)
module.open_port = lambda: 3
module.main(sys.argv[2:])";

impl Client {
    /// Needs Python; says so if there is none.
    fn new() -> Option<Client> {
        if Command::new("python3").arg("--version").output().is_err() {
            let _ = writeln!(io::stderr(), "skipped: xz on the host: no python3");
            return None;
        }
        let (compressor, end) = Compressor::start(LIMITS).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("xz"), boxinit::host_xz::PROGRAM).unwrap();
        // The one that takes over.
        std::fs::create_dir(folder.path().join("real")).unwrap();
        let real = folder.path().join("real/xz");
        // By another process: what this one has open for writing cannot be run while others fork.
        let script = r#"printf '%s\n' '#!/bin/sh' 'echo real "$@"' >"$0" && chmod 755 "$0""#;
        let made = Command::new("sh").args(["-c", script]).arg(&real).status();
        assert!(made.unwrap().success());
        Some(Client {
            _compressor: compressor,
            end,
            folder,
        })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("bash");
        // The descriptor gets its number in the child alone.
        command
            .args([
                "-c",
                "exec 3<&0 0</dev/null; exec \"$@\" <\"$input\"",
                "bash",
            ])
            .args(["python3", "-ISc", RUN])
            .arg(self.folder.path().join("xz"))
            .args(args)
            .current_dir(self.folder.path())
            .env(
                "PATH",
                format!(
                    "{0}:{0}/real:{1}",
                    self.folder.path().display(),
                    std::env::var("PATH").unwrap()
                ),
            )
            .env("input", "/dev/null")
            .stdin(Stdio::from(OwnedFd::from(self.end.try_clone().unwrap())));
        command
    }
}

#[test]
fn the_boxs_program_compresses_a_stream() {
    let Some(client) = Client::new() else { return };
    let content = content();
    std::fs::write(client.folder.path().join("input"), &content).unwrap();
    for args in [
        &["-f", "--threads=0"][..],
        &["-9e", "-T1", "-c"],
        &["-0fT0", "-"],
    ] {
        let output = client.command(args).env("input", "input").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert!(output.status.success());
        assert!(unpack(&output.stdout) == content, "{args:?}");
    }
}

#[test]
fn the_boxs_program_replaces_a_file() {
    let Some(client) = Client::new() else { return };
    let (file, packed) = (
        client.folder.path().join("an image"),
        client.folder.path().join("an image.xz"),
    );
    let content = content();
    std::fs::write(&file, &content).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&file, mode).unwrap();
    let before = std::fs::metadata(&file).unwrap();
    let run = |args: &[&str]| {
        let output = client.command(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(run(&["-f", "--threads=0", "--keep", "an image"]), "");
    assert!(file.exists());
    // There is one already, and it was not told to go.
    assert_eq!(run(&["an image"]), "real an image\n");
    assert_eq!(run(&["-f", "an image"]), "");
    assert!(!file.exists());
    assert!(unpack(&std::fs::read(&packed).unwrap()) == content);
    let after = std::fs::metadata(&packed).unwrap();
    assert_eq!(after.permissions(), before.permissions());
    assert_eq!(after.modified().unwrap(), before.modified().unwrap());
}

#[test]
fn the_boxs_own_xz_does_everything_else() {
    let Some(client) = Client::new() else { return };
    for args in [
        "-d file.xz",
        "--decompress",
        "-l x",
        "--check=crc32 -f",
        "-T+1",
        "--threads=",
        "-T",
        "--block-size=1MiB",
        "-F lzma",
        "a b",
        "missing",
        "/dev/null",
        "--version",
    ] {
        let words: Vec<&str> = args.split(' ').collect();
        let output = client.command(&words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim_end(), format!("real {args}"), "{output:?}");
    }
    let output = client
        .command(&["-f"])
        .env("XZ_OPT", "-9")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"real -f\n");
}

/// The program before was killed and has read only half a frame of what it was sent.
#[test]
fn what_was_for_another_one_is_passed_over() {
    let Some(client) = Client::new() else { return };
    send(&client.end, BEGIN, 1, b"0 0 1".to_vec()).unwrap();
    send(&client.end, DATA, 1, vec![7; 1000]).unwrap();
    send(&client.end, END, 1, Vec::new()).unwrap();
    let mut half = [0; HEAD + HEAD + 5];
    (&client.end).read_exact(&mut half).unwrap();
    std::fs::write(client.folder.path().join("input"), "mine").unwrap();
    let output = client
        .command(&["-f"])
        .env("input", "input")
        .output()
        .unwrap();
    assert_eq!(unpack(&output.stdout), b"mine", "{output:?}");
}

#[test]
fn without_a_host_the_box_does_it() {
    let Some(client) = Client::new() else { return };
    client.end.shutdown(Shutdown::Both).unwrap();
    let output = client.command(&["-f"]).output().unwrap();
    assert_eq!(output.stdout, b"real -f\n", "{output:?}");
}
