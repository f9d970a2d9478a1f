//! Descriptions as people have them, under the program: refused with file and line before a box is even
//! looked up, and shown.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const GOOD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
    <image schemaversion=\"8.0\" name=\"sample\">\n\
    <profiles>\n\
    <profile name=\"Disk\" description=\"a disk\"/>\n\
    <profile name=\"Live\" description=\"a medium\"/>\n\
    </profiles>\n\
    <preferences><version>1.2.3</version><packagemanager>apt</packagemanager></preferences>\n\
    <preferences profiles=\"Disk\"><type image=\"oem\" filesystem=\"ext4\" luks=\"passphrase\"/></preferences>\n\
    <preferences profiles=\"Live\"><type image=\"iso\"/></preferences>\n\
    <users><user name=\"tux\" password=\"secret\" groups=\"wheel\" home=\"/home/tux\"/></users>\n\
    <repository type=\"apt-deb\" distribution=\"trixie\"><source path=\"https://me:secret@mirror.example/debian\"/></repository>\n\
    <packages type=\"image\"><package name=\"vim\"/><package name=\"grub\" arch=\"x86_64\"/></packages>\n\
    </image>\n";

/// How long the program may take for anything here, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

struct User(tempfile::TempDir);

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl User {
    fn new() -> User {
        let user = User(tempfile::tempdir().unwrap());
        fs::create_dir(user.path("image")).unwrap();
        user
    }

    fn with(text: &str) -> User {
        let user = User::new();
        user.write("config.xml", text);
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("image").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boxbuild"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("KIWI_BOXED_CACHE_DIR", self.path("store"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn run(&self, args: &[&str]) -> Ended {
        finish(self.start(args), &args.join(" "))
    }

    /// A build of `image` in a box that does not exist.
    fn build(&self, options: &[&str]) -> Ended {
        let front = [&["--box", "none"], options].concat();
        let back = ["--", "--description", "image", "--target-dir", "target"];
        let ended = self.run(&[&front[..], &back].concat());
        assert!(!self.path("target").exists());
        ended
    }
}

#[track_caller]
fn finish(mut child: Child, what: &str) -> Ended {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            panic!("{what}: does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ended {
    #[track_caller]
    fn expect(&self, code: i32, texts: &[&str]) {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{all}");
        for text in texts {
            assert!(all.contains(text), "no '{text}' in: {all}");
        }
    }
}

/// Each of these failed half a minute later, in the box.
#[test]
fn a_wrong_description_is_refused_on_the_host_with_file_and_line() {
    for (text, options, place) in [
        ("", &[][..], "image/config.xml: is empty"),
        (
            "<image>\n<a>\n</image>",
            &[],
            "image/config.xml:3: malformed XML",
        ),
        (
            "<image>\n<a b=1/></image>",
            &[],
            "image/config.xml:2: malformed XML",
        ),
        (
            "<imag/>",
            &[],
            "image/config.xml:1: the root element is <imag>",
        ),
        (
            GOOD,
            &["--profile", "Disc"],
            "image/config.xml:3: there is no profile Disc (--profile); did you mean Disk?",
        ),
        (
            GOOD,
            &["--profile", "Live", "--type", "oem"],
            "image/config.xml:2: there is no type oem",
        ),
        (
            GOOD,
            &[],
            "image/config.xml:2: there is no type to build without a profile",
        ),
        (
            &GOOD.replace(
                "<users>",
                "<include from=\"this://parts/none.xml\"/><users>",
            ),
            &["--profile", "Disk"],
            "image/config.xml:10: the include this://parts/none.xml does not exist",
        ),
    ] {
        let user = User::with(text);
        user.build(options).expect(2, &[place]);
    }
    let user = User::new();
    user.write("x.kiwi/inside", "");
    user.write("y.kiwi", GOOD);
    user.build(&[]).expect(2, &["image/x.kiwi: is a folder"]);
    let user = User::new();
    user.write("appliance.yml", "image: {}");
    user.build(&[])
        .expect(2, &["image/config.xml", "--kiwi-file appliance.yml"]);
    let user = User::new();
    fs::write(user.path("out.xml"), GOOD).unwrap();
    symlink("../out.xml", user.path("image/config.xml")).unwrap();
    user.build(&[]).expect(
        2,
        &[
            "image/config.xml: leads to /out.xml in the box",
            "--shared-path",
        ],
    );
    // In JSON as well.
    let ended = User::with("<image>").build(&["--json"]);
    ended.expect(
        2,
        &["\"event\":\"error\"", "image/config.xml:1: malformed XML"],
    );
}

/// What kiwi accepts comes as far as the box, which is not there.
#[test]
fn a_description_that_kiwi_takes_is_never_refused() {
    let there_is_no_box = "there is no box 'none'";
    let wide: Vec<u8> = GOOD
        .replace("utf-8", "UTF-16")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let latin: Vec<u8> = GOOD
        .replace("utf-8", "ISO-8859-1")
        .replace("a disk", "une image \u{e9}tendue")
        .chars()
        .map(|c| c as u8)
        .collect();
    let marked = [b"\xef\xbb\xbf", GOOD.as_bytes()].concat();
    let unknown = GOOD.replace("utf-8", "x-unknown").into_bytes();
    let entity = GOOD.replace(
        "<image ",
        "<!DOCTYPE image [<!ENTITY d \"a disk\">]><image ",
    );
    let entity = entity.replace("description=\"a disk\"", "description=\"&d;\"");
    for bytes in [wide, latin, marked, unknown, entity.into_bytes()] {
        let user = User::new();
        fs::write(user.path("image/config.xml"), &bytes).unwrap();
        user.build(&["--profile", "Disk"])
            .expect(2, &[there_is_no_box]);
    }
    let user = User::new();
    user.write("image/config.xml", GOOD);
    user.write("appliance.kiwi", "<broken");
    user.build(&["--profile", "Disk"])
        .expect(2, &[there_is_no_box]);
    user.write(
        "other.yml",
        "image:\n  '@schemaversion': '8.0'\n  preferences:\n    type:\n      '@image': tbz\n",
    );
    user.build(&["--kiwi-file", "other.yml"])
        .expect(2, &[there_is_no_box]);
}

#[test]
fn a_description_without_an_end_is_refused_at_once() {
    let user = User::new();
    let config = user.path("image/config.xml");
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for command in ["info", "check"] {
        user.run(&[command, "image"])
            .expect(2, &["image/config.xml: is a named pipe"]);
    }
    user.build(&[])
        .expect(2, &["image/config.xml: is a named pipe"]);
    fs::remove_file(&config).unwrap();
    symlink("/dev/zero", &config).unwrap();
    user.build(&[])
        .expect(2, &["image/config.xml: leads to /dev/zero in the box"]);
    fs::remove_file(&config).unwrap();
    File::create(&config).unwrap().set_len(1 << 40).unwrap();
    user.run(&["info", "image"])
        .expect(0, &["too long to be looked at"]);
    user.write(
        "config.xml",
        &format!("{}{}", "<a>".repeat(400_000), "</a>".repeat(400_000)),
    );
    user.run(&["info", "image"])
        .expect(0, &["image/config.xml"]);
}

/// A file system that answers to nothing but its mount, as one whose server is gone.
struct Silent(PathBuf);

impl Silent {
    fn mount(at: &Path) -> Option<Silent> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let mut device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .ok()?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        fs::create_dir(at).unwrap();
        mount(
            Some("silent"),
            at,
            Some("fuse.silent"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .ok()?;
        // The first request is FUSE_INIT (linux/fuse.h): 40 bytes of head, with the request's number
        // at 8. The answer has a head of 16 bytes and struct fuse_init_out.
        let mut request = vec![0; 64 << 10];
        let length = device.read(&mut request).unwrap();
        assert!(length >= 48, "{length}");
        let mut answer = vec![0; 16 + 64];
        answer[..4].copy_from_slice(&80_u32.to_le_bytes());
        answer[8..16].copy_from_slice(&request[8..16]);
        answer[16..20].copy_from_slice(&7_u32.to_le_bytes());
        answer[20..24].copy_from_slice(&31_u32.to_le_bytes());
        answer[36..40].copy_from_slice(&4096_u32.to_le_bytes());
        device.write_all(&answer).unwrap();
        // Kept open until the end of the test: closing it answers all requests with an error.
        std::mem::forget(device);
        Some(Silent(at.to_owned()))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH | MntFlags::MNT_FORCE);
    }
}

/// The program waited in the kernel, and Ctrl-C did nothing.
#[test]
fn a_signal_ends_the_program_while_a_file_system_does_not_answer() {
    let user = User::new();
    let Some(silent) = Silent::mount(&user.path("silent")) else {
        eprintln!(
            "skipped: a_signal_ends_the_program_while_a_file_system_does_not_answer: no root, or no FUSE"
        );
        return;
    };
    let build = [
        "--box",
        "none",
        "--",
        "--description",
        "silent",
        "--target-dir",
        "target",
    ];
    for args in [&["info", "silent"][..], &["check", "silent"], &build] {
        let mut child = user.start(args);
        std::thread::sleep(Duration::from_secs(1));
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended");
        let start = Instant::now();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        finish(child, "a signal").expect(130, &["interrupted"]);
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{:?}",
            start.elapsed()
        );
    }
    drop(silent);
}

#[test]
fn info_shows_a_description_without_its_secrets() {
    let user = User::with(GOOD);
    user.write("config.sh", "");
    user.write("root/etc/motd", "");
    let ended = user.run(&["info", "image", "--profile", "Disk"]);
    ended.expect(
        0,
        &[
            "sample",
            "schema 8.0",
            "Disk  a disk",
            "version 1.2.3, packagemanager apt",
            "oem  [Disk]  filesystem=ext4  luks=***",
            "https://***@mirror.example/debian  apt-deb  trixie",
            "vim grub (x86_64)",
            "tux  groups wheel  /home/tux",
            "root config.sh",
            "builds         oem with the profile Disk",
        ],
    );
    let json = user.run(&["info", "image/config.xml", "--profile", "Disk", "--json"]);
    json.expect(0, &[]);
    for text in [&ended.stdout, &json.stdout] {
        assert!(
            !text.contains("secret") && !text.contains("passphrase"),
            "{text}"
        );
    }
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let description = &document["description"];
    assert_eq!(description["name"], "sample");
    assert_eq!(description["types"][0]["image"], "oem");
    assert_eq!(description["repositories"][0]["line"], 11);
    assert_eq!(description["selected"]["type"], "oem");
    assert_eq!(description["profiles"][1]["name"], "Live");
    assert_eq!(document["findings"], serde_json::json!([]));
    // What is wrong is said, and the rest is shown all the same.
    let ended = user.run(&["info", "image"]);
    ended.expect(
        2,
        &["sample", "image/config.xml:2: there is no type to build"],
    );
    user.run(&["info", "nowhere"])
        .expect(2, &["nowhere", "does not exist"]);
}

#[test]
fn check_tells_all_that_the_host_can_see() {
    let user = User::with(&GOOD.replace("8.0", "6.8"));
    let ended = user.run(&["check", "image", "--profile", "Live"]);
    ended.expect(
        0,
        &["note: image/config.xml:2: the schema version 6.8 is too old for kiwi 11"],
    );
    let ended = user.run(&["check", "image", "--profile", "None", "--json"]);
    ended.expect(2, &[]);
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(document["checked_in_box"], false);
    assert_eq!(document["findings"][0]["severity"], "error");
    assert_eq!(document["findings"][0]["line"], 3);
    // Build arguments stand behind the separator.
    let wrong = user.run(&[
        "check",
        "image",
        "--profile",
        "Live",
        "--",
        "--set-rep",
        "x",
    ]);
    wrong.expect(2, &["did you mean --set-repo?"]);
}

#[test]
fn a_description_cannot_write_to_the_terminal() {
    let evil = "\u{9b}31m\u{202e}\u{2066}";
    let user = User::with(&GOOD.replace("a disk", evil).replace("vim", evil));
    user.write("\u{1b}[31m.kiwi", "");
    for args in [
        &["info", "image", "--profile", evil][..],
        &["info", "image", "--json"],
        &["check", "image", "--profile", evil],
    ] {
        let ended = user.run(args);
        let text = ended.stdout + &ended.stderr;
        let mut harmful = text
            .chars()
            .filter(|char| boxbuild_host::text::is_harmful(*char));
        assert!(harmful.all(|char| char == '\n'), "{text:?}");
    }
}
