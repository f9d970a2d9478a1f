//! Several processes at once, and processes that are killed.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{CommandResult, Sandbox};
use crate::server::Fault;
use crate::sets::{Set, disk_name, disk_path, kernel_name, kernel_path};

fn signal(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal);
}

#[test]
fn eight_processes_make_one_download() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 400_000);
    set.publish(&sandbox.server);
    let (kernel, disk) = (kernel_path(), disk_path());
    sandbox.server.fault(&disk, None, Fault::Slow(50_000, 100));
    let children: Vec<Child> = (0..8)
        .map(|_| sandbox.command(&["box", "pull", "test"]).spawn().unwrap())
        .collect();
    let result: Vec<CommandResult> = children
        .into_iter()
        .map(|child| CommandResult::from(child.wait_with_output().unwrap()))
        .collect();
    let waited = result
        .iter()
        .filter(|result| result.stderr.contains("waiting for it"))
        .count();
    for result in result {
        result.expect(0, &[]);
    }
    assert!(waited > 0, "the others say that they wait");
    assert!(sandbox.has(&set));
    assert_eq!(sandbox.server.take_served(&disk), set.disk.len() as u64);
    assert_eq!(
        sandbox.server.take_served(&kernel),
        set.kernel_archive.len() as u64
    );
    assert!(sandbox.leftovers().is_empty(), "{:?}", sandbox.leftovers());
}

#[test]
fn an_interrupted_fetch_is_continued_later() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 600_000);
    set.publish(&sandbox.server);
    let disk = disk_path();
    sandbox
        .server
        .fault(&disk, Some(1), Fault::Slow(20_000, 50));
    let child = sandbox.command(&["box", "pull", "test"]).spawn().unwrap();
    let part = sandbox
        .root()
        .join(format!(".fetch-test.{}", boxbuild_host::arch::Arch::host()))
        .join(format!("{}.part", disk_name()));
    let start = Instant::now();
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 100_000 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, Signal::SIGINT);
    CommandResult::from(child.wait_with_output().unwrap()).expect(130, &["interrupted"]);
    let kept = fs::metadata(&part).unwrap().len();
    assert!((100_000..set.disk.len() as u64).contains(&kept));
    sandbox.server.take_served(&disk);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    assert!(sandbox.has(&set));
    assert_eq!(
        sandbox.server.take_served(&disk),
        set.disk.len() as u64 - kept
    );
}

/// How often a process is killed: more in `make test-full`.
fn kills() -> u32 {
    std::env::var("BOXBUILD_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20)
}

/// Returns random numbers (Marsaglia's xorshift), each below its argument.
fn random_numbers() -> impl FnMut(u64) -> u64 {
    let mut seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos()
        | 1;
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        u64::from(seed) % below
    }
}

/// A user whose box alternates between two versions.
struct Updates {
    sandbox: Sandbox,
    sets: [Set; 2],
    /// Index of the installed version.
    current: usize,
    /// Microseconds that an update takes if it is not killed.
    whole: u64,
}

impl Updates {
    /// Installs both versions once.
    fn new() -> Updates {
        let sandbox = Sandbox::new();
        let sets = [Set::new(1, 300_000), Set::new(2, 300_000)];
        sets[0].publish(&sandbox.server);
        sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
        // Most of the time shall go into the download.
        for path in [kernel_path(), disk_path()] {
            sandbox.server.fault(&path, None, Fault::Slow(20_000, 4));
        }
        sets[1].publish(&sandbox.server);
        let start = Instant::now();
        sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
        Updates {
            sandbox,
            sets,
            current: 1,
            whole: start.elapsed().as_micros() as u64,
        }
    }

    /// The folder that the box is fetched to.
    fn fetch_dir(&self) -> PathBuf {
        self.sandbox
            .root()
            .join(format!(".fetch-test.{}", boxbuild_host::arch::Arch::host()))
    }

    /// Bytes in the partial files.
    fn kept(&self) -> u64 {
        let names = [disk_name(), kernel_name()];
        let sizes = names
            .iter()
            .map(|name| fs::metadata(self.fetch_dir().join(format!("{name}.part"))));
        sizes.flatten().map(|metadata| metadata.len()).sum()
    }

    /// Bytes sent since the last call.
    fn take_served(&self) -> u64 {
        let paths = [disk_path(), kernel_path()];
        paths
            .iter()
            .map(|path| self.sandbox.server.take_served(path))
            .sum()
    }

    /// Starts an update and kills it, at a random time or when a random part of the files has been
    /// fetched. Returns whether it had succeeded before.
    fn update_and_kill(&self, random: &mut impl FnMut(u64) -> u64, total: u64) -> bool {
        let child = self
            .sandbox
            .command(&["box", "pull", "test"])
            .spawn()
            .unwrap();
        let bytes = random(total);
        let time = Duration::from_micros(random(self.whole * 5 / 4));
        let start = Instant::now();
        if random(2) == 0 {
            std::thread::sleep(time);
        } else {
            while self.kept() < bytes && start.elapsed() < Duration::from_micros(self.whole * 2) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        signal(&child, Signal::SIGKILL);
        child.wait_with_output().unwrap().status.success()
    }
}

#[test]
fn a_killed_update_leaves_the_old_box_or_the_new_one() {
    let mut random = random_numbers();
    let mut updates = Updates::new();
    let (mut early, mut late, mut resumed) = (0, 0, 0);
    for _ in 0..kills() {
        let (old, new) = (
            &updates.sets[updates.current],
            &updates.sets[1 - updates.current],
        );
        let total = (new.disk.len() + new.kernel_archive.len()) as u64;
        new.publish(&updates.sandbox.server);
        updates.take_served();
        let succeeded = updates.update_and_kill(&mut random, total);
        // Whatever was going on: the box is one of the two, whole.
        let is_new = updates.sandbox.has(new);
        assert!(is_new || updates.sandbox.has(old));
        late += u32::from(succeeded);
        assert!(is_new || !succeeded);
        let kept = updates.kept();
        let before = updates.take_served();
        let start = Instant::now();
        updates.sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
        let time = start.elapsed().as_micros() as u64;
        assert!(updates.sandbox.has(new));
        let state = format!("{}.part.json", disk_name());
        assert!(!updates.fetch_dir().join(state).exists());
        let again = updates.take_served();
        if !is_new {
            // Nothing that was on the disk is sent a second time.
            assert!(again + kept <= total, "{again} bytes again, {kept} kept");
            early += u32::from(before == 0);
            resumed += u32::from(kept > 0);
        }
        if before == 0 {
            updates.whole = updates.whole.min(time);
        }
        updates.current = 1 - updates.current;
    }
    println!(
        "killed {} times: {resumed} downloads were continued, {early} had not begun, {late} were \
         done",
        kills()
    );
    updates.sandbox.run(&["box", "prune"]).expect(0, &[]);
    let left = updates.sandbox.leftovers();
    // Folders of processes killed a moment ago are left alone.
    assert!(
        left.iter().all(|name| name.starts_with(".staging-")),
        "{left:?}"
    );
}
