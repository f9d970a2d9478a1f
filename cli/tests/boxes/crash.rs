//! Several processes at once, and processes that are killed.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::{CommandResult, Sandbox};
use crate::server::Fault;
use crate::sets::{Set, disk_name, kernel_name};

fn signal(child: &Child, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal);
}

#[test]
fn eight_processes_make_one_download() {
    let sandbox = Sandbox::new();
    let set = Set::new(1, 400_000);
    set.publish(&sandbox.server);
    let (kernel, disk) = (
        format!("/r/{}", kernel_name()),
        format!("/r/{}", disk_name()),
    );
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
    let disk = format!("/r/{}", disk_name());
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

#[test]
fn a_killed_update_leaves_the_old_box_or_the_new_one() {
    let sandbox = Sandbox::new();
    let mut seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .subsec_nanos()
        | 1;
    let mut random = move |below: u64| {
        // Marsaglia's xorshift.
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        u64::from(seed) % below
    };
    let sets = [Set::new(1, 300_000), Set::new(2, 300_000)];
    let (kernel, disk) = (
        format!("/r/{}", kernel_name()),
        format!("/r/{}", disk_name()),
    );
    sets[0].publish(&sandbox.server);
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    // Most of the time shall go into the download.
    for path in [&kernel, &disk] {
        sandbox.server.fault(path, None, Fault::Slow(20_000, 4));
    }
    // How long an update takes where nobody kills it.
    sets[1].publish(&sandbox.server);
    let start = Instant::now();
    sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
    let mut whole = start.elapsed().as_micros() as u64;

    let mut current = 1;
    let (mut early, mut late, mut resumed) = (0, 0, 0);
    for _ in 0..kills() {
        let (old, new) = (&sets[current], &sets[1 - current]);
        new.publish(&sandbox.server);
        sandbox.server.take_served(&disk);
        sandbox.server.take_served(&kernel);
        let child = sandbox.command(&["box", "pull", "test"]).spawn().unwrap();
        let fetch = sandbox
            .root()
            .join(format!(".fetch-test.{}", boxbuild_host::arch::Arch::host()));
        let kept = || -> u64 {
            let names = [disk_name(), kernel_name()];
            let sizes = names
                .iter()
                .map(|name| fs::metadata(fetch.join(format!("{name}.part"))));
            sizes.flatten().map(|metadata| metadata.len()).sum()
        };
        // At a random time, or when a random part of the files is there.
        let bytes = random((new.disk.len() + new.kernel_archive.len()) as u64);
        let time = Duration::from_micros(random(whole * 5 / 4));
        let start = Instant::now();
        if random(2) == 0 {
            std::thread::sleep(time);
        } else {
            while kept() < bytes && start.elapsed() < Duration::from_micros(whole * 2) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        signal(&child, Signal::SIGKILL);
        let ended = child.wait_with_output().unwrap();
        // Whatever was going on: the box is one of the two, whole.
        let is_new = sandbox.has(new);
        assert!(is_new || sandbox.has(old));
        if ended.status.success() {
            late += 1;
            assert!(is_new);
        }
        let kept = kept();
        let state = fetch.join(format!("{}.part.json", disk_name()));
        let before: u64 = [&disk, &kernel]
            .map(|path| sandbox.server.take_served(path))
            .iter()
            .sum();
        let start = Instant::now();
        sandbox.run(&["box", "pull", "test"]).expect(0, &[]);
        if before == 0 {
            whole = whole.min(start.elapsed().as_micros() as u64);
        }
        assert!(sandbox.has(new));
        assert!(!state.exists());
        let again = sandbox.server.take_served(&disk) + sandbox.server.take_served(&kernel);
        if !is_new {
            let total = (new.disk.len() + new.kernel_archive.len()) as u64;
            // Nothing that was on the disk is sent a second time.
            assert!(again + kept <= total, "{again} bytes again, {kept} kept");
            early += u32::from(before == 0);
            resumed += u32::from(kept > 0);
        }
        current = 1 - current;
    }
    println!(
        "killed {} times: {resumed} downloads went on, {early} had not begun, {late} were done",
        kills()
    );
    sandbox.run(&["box", "prune"]).expect(0, &[]);
    let left = sandbox.leftovers();
    // Folders of processes killed a moment ago are left alone.
    assert!(
        left.iter().all(|name| name.starts_with(".staging-")),
        "{left:?}"
    );
}
