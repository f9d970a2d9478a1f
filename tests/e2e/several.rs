//! Several builds of one box at once: nothing is shared that could collide, and the box is on
//! the host once.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boxbuild_tests::sandbox::copy_box;
use boxbuild_tests::{ProcessOutput, Running, Sandbox, engine, names, scaled_timeout, skip};

crate::tests! {
    Engine:
        three_builds_of_one_box_side_by_side;
    Program:
        a_box_can_be_removed_while_builds_run,
        builds_at_once_share_no_port,
        boxes_of_every_architecture_are_reached;
}

/// How many builds run at once.
const COUNT: usize = 3;

/// Reports that it has started, and waits to be told to go on.
const MEET: &str = "touch /bundle/started
    until [ -e /bundle/go ]; do sleep 0.2; done
    rm /bundle/started /bundle/go; cat /etc/hostname /proc/uptime >/result/image 2>/dev/null; :";

/// Builds that have all come as far as their scripts.
struct Meeting {
    sandbox: Sandbox,
    builds: Vec<Running>,
}

impl Meeting {
    fn of(front: &[&str]) -> Meeting {
        let sandbox = Sandbox::new(MEET);
        // Other tests' builds have locks on the one that they share.
        sandbox.own_disk();
        let builds: Vec<Running> = (0..COUNT)
            .map(|number| {
                let mut command = sandbox.command(["--box", "small", "--engine", &engine()]);
                command.args(front);
                sandbox.behind_separator(&mut command, &target(&sandbox, number));
                Running::start(&mut command).limit(scaled_timeout(500))
            })
            .collect();
        let mut meeting = Meeting { sandbox, builds };
        for (number, build) in meeting.builds.iter_mut().enumerate() {
            let started = share(&meeting.sandbox, number).join("started");
            build.wait_until("its script", |_| started.exists());
        }
        meeting
    }

    /// Lets all builds go on, to their ends.
    fn end(self) -> (Sandbox, Vec<ProcessOutput>) {
        for number in 0..COUNT {
            fs::write(share(&self.sandbox, number).join("go"), "").unwrap();
        }
        let output = self.builds.into_iter().map(Running::finish).collect();
        (self.sandbox, output)
    }

    /// The processes of all builds.
    fn processes(&self) -> Vec<PathBuf> {
        let mut found: Vec<String> = self
            .builds
            .iter()
            .map(|build| build.pid().to_string())
            .collect();
        let parents: BTreeSet<String> = found.iter().cloned().collect();
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
            if parent.is_some_and(|parent| parents.contains(parent)) {
                found.push(name);
            }
        }
        found
            .iter()
            .map(|pid| Path::new("/proc").join(pid))
            .collect()
    }
}

fn target(sandbox: &Sandbox, number: usize) -> PathBuf {
    sandbox.path(&format!("target{number}"))
}

/// What a guest sees as /bundle.
fn share(sandbox: &Sandbox, number: usize) -> PathBuf {
    target(sandbox, number).join(".boxbuild.partial/bundle")
}

fn three_builds_of_one_box_side_by_side() {
    let meeting = Meeting::of(&[]);
    assert_eq!(
        names(&meeting.sandbox.store()),
        ["small"],
        "a build puts no name into the store"
    );
    assert_eq!(names(&meeting.sandbox.temp()), [] as [&str; 0]);
    assert_shared_locks(&meeting);
    assert_disk_once(&meeting);
    let (sandbox, output) = meeting.end();
    for (number, output) in output.iter().enumerate() {
        output.expect(0, &[]);
        assert_eq!(
            names(&target(&sandbox, number)),
            ["image", "result.code", "result.log"]
        );
    }
    sandbox.assert_nothing_left();
}

/// What a build holds of the box can be held by all of them: proc_locks(5).
fn assert_shared_locks(meeting: &Meeting) {
    let small = meeting.sandbox.store().join("small");
    let inodes: BTreeSet<u64> = fs::read_dir(&small)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().ino())
        .chain([meeting.sandbox.store().metadata().unwrap().ino()])
        .chain([small.metadata().unwrap().ino()])
        .collect();
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let pids: BTreeSet<String> = meeting
        .processes()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut own = 0;
    for line in locks.lines() {
        // 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE START END
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.get(4).is_some_and(|pid| pids.contains(*pid)) {
            continue;
        }
        own += 1;
        let inode: u64 = words[5].rsplit(':').next().unwrap().parse().unwrap();
        assert!(
            !inodes.contains(&inode) || words[3] == "READ",
            "a lock on the box: {line}"
        );
    }
    assert!(own >= COUNT, "each build holds its target:\n{locks}");
}

/// All builds read one file of the host, so that its pages are in memory once; and what they
/// wrote beside it is their own, and far less than the disk.
fn assert_disk_once(meeting: &Meeting) {
    let disk = meeting.sandbox.store().join("small/disk.qcow2");
    let inode = disk.metadata().unwrap().ino();
    let (mut holders, mut closed) = (0, 0);
    for process in meeting.processes() {
        let entries = match fs::read_dir(process.join("fd")) {
            Ok(entries) => entries,
            Err(error) => {
                closed += usize::from(error.kind() == ErrorKind::PermissionDenied);
                continue;
            }
        };
        let open: Vec<u64> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| fs::metadata(entry.path()).ok())
            .map(|metadata| metadata.ino())
            .collect();
        holders += usize::from(open.contains(&inode));
    }
    if closed >= COUNT {
        // Only root can look into the machines' processes; all can see their locks.
        holders = locked(inode);
    }
    assert!(holders >= COUNT, "only {holders} processes have the disk");
}

/// How many open files have the image `inode` locked as one that they read (`vmm/src/disk/lock.rs`).
fn locked(inode: u64) -> usize {
    /// QEMU's "used for reading".
    const READ: &str = "100";
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let of_image = |line: &&str| {
        // 1: OFDLCK ADVISORY READ -1 MAJOR:MINOR:INODE START END
        let words: Vec<&str> = line.split_whitespace().collect();
        let file = words.get(5).and_then(|file| file.rsplit(':').next());
        words.get(1) == Some(&"OFDLCK")
            && words.get(6) == Some(&READ)
            && file.is_some_and(|number| number.parse() == Ok(inode))
    };
    locks.lines().filter(of_image).count()
}

/// The box is replaced and removed while builds of it run: they end well.
fn a_box_can_be_removed_while_builds_run() {
    let meeting = Meeting::of(&[]);
    meeting.sandbox.run(["box", "rm", "small"]).expect(0, &[]);
    assert_eq!(names(&meeting.sandbox.store()), [] as [&str; 0]);
    let (sandbox, output) = meeting.end();
    for (number, output) in output.iter().enumerate() {
        output.expect(0, &[]);
        assert!(target(&sandbox, number).join("image").exists());
    }
    assert_eq!(names(&sandbox.store()), [] as [&str; 0]);
}

/// No process of a build listens on the network.
fn builds_at_once_share_no_port() {
    let meeting = Meeting::of(&["--sshfs-sharing"]);
    let listening: BTreeSet<String> = ["tcp", "tcp6", "udp", "udp6"]
        .iter()
        .flat_map(|kind| {
            let table = fs::read_to_string(format!("/proc/net/{kind}")).unwrap_or_default();
            table
                .lines()
                .skip(1)
                // State 0A is LISTEN, 07 an unconnected UDP socket (include/net/tcp_states.h).
                .filter(|line| {
                    let state = line.split_whitespace().nth(3);
                    state == Some("0A") || state == Some("07")
                })
                .filter_map(|line| line.split_whitespace().nth(9).map(str::to_owned))
                .collect::<Vec<_>>()
        })
        .collect();
    let mut closed = 0;
    for process in meeting.processes() {
        let entries = match fs::read_dir(process.join("fd")) {
            Ok(entries) => entries,
            Err(error) => {
                closed += usize::from(error.kind() == ErrorKind::PermissionDenied);
                continue;
            }
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(link) = fs::read_link(entry.path()) else {
                continue;
            };
            let link = link.to_string_lossy().into_owned();
            let inode = link
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'));
            assert!(
                !inode.is_some_and(|inode| listening.contains(inode)),
                "{} listens on the network",
                process.display()
            );
        }
    }
    if closed > 0 {
        skip(
            "builds_at_once_share_no_port, jailed processes",
            "only root can look into them",
        );
    }
    for output in meeting.end().1 {
        output.expect(0, &[]);
    }
}

/// `--arch` and the peer's flags pick the box, the machine and QEMU's program.
fn boxes_of_every_architecture_are_reached() {
    let sandbox = Sandbox::new("");
    let store = sandbox.store();
    for (arch, debian, flag, program) in [
        ("aarch64", "arm64", Some("--aarch64"), "qemu-system-aarch64"),
        ("ppc64le", "ppc64el", None, "qemu-system-ppc64"),
        ("s390x", "s390x", None, "qemu-system-s390x"),
    ] {
        if arch == std::env::consts::ARCH {
            continue;
        }
        // The box `small`, as if it were for another architecture.
        let name = format!("small.{arch}");
        let folder = store.join(&name);
        copy_box(&store.join("small"), &folder);
        let text = fs::read_to_string(folder.join("box.json")).unwrap();
        let text = text
            .replace("\"name\": \"small\"", &format!("\"name\": \"{name}\""))
            .replace(std::env::consts::ARCH, arch);
        fs::write(folder.join("box.json"), text).unwrap();
        let mut spellings = vec![vec!["--arch", arch], vec!["--arch", debian]];
        spellings.extend(flag.map(|flag| vec![flag]));
        for spelling in spellings {
            let mut command = sandbox.command(["--box", "small", "--dry-run"]);
            command.args(&spelling);
            sandbox.behind_separator(&mut command, &sandbox.target());
            let output = ProcessOutput::of(&mut command);
            if output.code == 0 {
                for text in [&*name, arch, "engine       qemu"] {
                    assert!(
                        output.stdout.contains(text),
                        "{spelling:?}: {}",
                        output.stdout
                    );
                }
            } else {
                output.expect(3, &[program, "is not installed"]);
            }
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
