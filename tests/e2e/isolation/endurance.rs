//! Attackers that go on for as long as they are let: memory stays flat, and Ctrl-C ends each.

use std::time::{Duration, Instant};

use boxbuild_tests::{Running, Watch, scaled_timeout};
use nix::sys::signal::Signal;

use super::attacker::{self, FIND};
use super::budgets::{FILES, starved, stop};
use super::guest::Guest;

crate::tests! {
    Qemu:
        an_attacker_of_descriptors_is_held_and_stopped,
        an_attacker_of_memory_is_held_and_stopped,
        an_attacker_of_time_is_held_and_stopped;
}

/// How long each attacker goes on, in seconds; 5 otherwise.
pub(crate) const SECONDS: &str = "BOXBUILD_ATTACK_SECONDS";

/// What boxbuild's processes may take more at the end than after the first rounds of the attack.
const GROWTH_KIB: u64 = 16 << 10;

/// What they may take at any time.
const MEMORY_KIB: u64 = 160 << 10;

fn duration() -> Duration {
    let seconds =
        std::env::var(SECONDS).map_or(5, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Runs `round` in the guest without end, looks at the host meanwhile, and stops it. `starve`: the
/// processes may have few descriptors, so that a guest comes to their end.
fn endure(test: &str, starve: bool, round: &str) {
    let guest = Guest::machine();
    if !attacker::bring(&guest, test) {
        return;
    }
    guest.script(&format!(
        "{FIND}cd /bundle; echo attacking >>result.log; sleep 2; number=0
         while :; do {round}; done"
    ));
    let front = ["--verbose", "--keep-failed=yes"];
    let mut command = if starve {
        starved(&guest, &front)
    } else {
        guest.command(&front)
    };
    let limit = scaled_timeout(240) + duration();
    let mut build = Running::start(&mut command).limit(limit);
    let watch = Watch::start(build.pid());
    build.wait_for("attacking");
    let start = Instant::now();
    let (mut early, mut late) = (0, 0);
    while start.elapsed() < duration() {
        std::thread::sleep(Duration::from_millis(100));
        let now = watch.now_kib();
        if start.elapsed() < duration() / 3 {
            early = early.max(now);
        } else {
            late = late.max(now);
        }
        assert!(!build.has_ended(), "the guest ended: {:?}", build.finish());
    }
    stop(build, Signal::SIGINT).expect(130, &["interrupted"]);
    let peak = watch.peak_kib();
    println!(
        "{test}: {:?}: {early} KiB in the first third, {late} KiB later, {peak} KiB at most, {} descriptors",
        duration(),
        watch.files()
    );
    assert!(
        late < early + GROWTH_KIB && peak < MEMORY_KIB,
        "from {early} KiB to {late} KiB, {peak} KiB at most: {:#?}",
        watch.processes()
    );
    assert!(!starve || watch.files() < FILES * 3 / 4);
    guest.assert_nothing_left();
}

/// Inodes, open files and open folders, kept and given back.
fn an_attacker_of_descriptors_is_held_and_stopped() {
    endure(
        "an_attacker_of_descriptors_is_held_and_stopped",
        true,
        "mkdir -p hoard/folder; touch hoard/folder/a
         $attacker many hoard 1500 >/dev/null
         $attacker lists hoard/folder 1500 >/dev/null
         find hoard | xargs ls -ld >/dev/null
         echo 2 >/proc/sys/vm/drop_caches",
    );
}

/// Lines without text and text without lines, on all ways that a guest can speak.
fn an_attacker_of_memory_is_held_and_stopped() {
    endure(
        "an_attacker_of_memory_is_held_and_stopped",
        false,
        "head -c 4000000 /dev/zero | tr '\\000' '\\n' >>result.log
         head -c 4000000 /dev/zero | tr '\\000' 'x' >>result.log
         head -c 20000 /dev/zero | tr '\\000' '\\n' >/dev/console
         head -c 20000 /dev/urandom >/dev/console
         head -c 4000000 /dev/urandom >>result.log
         [ $(stat -c %s result.log) -lt 100000000 ] || : >result.log",
    );
}

/// Logs that are almost all hole, FIFOs and links in their place, deep trees, many names.
fn an_attacker_of_time_is_held_and_stopped() {
    endure(
        "an_attacker_of_time_is_held_and_stopped",
        false,
        "truncate -s 8796093022208 result.log
         echo tail >>result.log
         $attacker deep /bundle 1000 >/dev/null; rm -rf tree$number; mv tree tree$number
         number=$(((number + 1) % 3))
         mkdir -p names; for i in $(seq 200); do : >names/$i; mkfifo names/f$i; ln -s $i names/l$i; done
         rm -rf names
         rm -f result.log; mkfifo result.log; rm result.log; ln -s /dev/zero result.log; rm result.log",
    );
}
