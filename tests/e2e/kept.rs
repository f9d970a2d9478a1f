//! Failed builds that are kept, and the box's console.

use std::fs;
use std::time::{Duration, Instant};

use boxbuild_tests::pty::Terminal;
use boxbuild_tests::{ProcessOutput, Sandbox, names};
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        a_failed_build_is_kept_and_entered,
        the_box_stays_open_for_its_user;
    Program:
        what_is_kept_is_bounded_and_held,
        a_killed_boxbuild_keeps_nothing,
        a_build_that_never_came_to_kiwi_pushes_nothing_out,
        not_all_goes_unasked,
        the_terminal_is_restored,
        the_console_needs_a_terminal;
}

const FAILING: &str = "echo from the build >/root/left; mkdir -p /result
    head -c 3000000 /dev/urandom >/result/big; sha256sum </result/big >/root/sum
    echo '[ ERROR   ]: 00:00:00 | it went wrong' >>$log; echo on the console >/dev/console
    return 7";

fn keep(sandbox: &Sandbox) {
    let output = sandbox.build(&["--keep-failed=yes"], &[]);
    output.expect(1, &["it is kept (", "boxbuild shell small-"]);
}

fn a_failed_build_is_kept_and_entered() {
    let sandbox = Sandbox::new(FAILING);
    keep(&sandbox);
    let list = sandbox.run(["builds"]);
    list.expect(0, &[]);
    assert!(
        list.stdout.contains("small-1") && list.stdout.contains("exit code 7"),
        "{list:?}"
    );
    let list = sandbox.run(["builds", "--json"]);
    assert!(list.stdout.contains("\"exit_code\": 1"), "{list:?}");
    let log = sandbox.run(["logs", "small-1"]);
    assert!(
        log.code == 0 && log.stdout.contains("it went wrong"),
        "{log:?}"
    );
    let console = sandbox.run(["logs", "--console"]);
    assert!(console.stdout.contains("on the console"), "{console:?}");
    sandbox
        .run(["logs", "small-2"])
        .expect(2, &["no kept build 'small-2'", "did you mean 'small-1'?"]);

    // Twice: what is done in the shell is thrown away. The box may go meanwhile.
    sandbox.run(["box", "rm", "small"]).expect(0, &[]);
    for _ in 0..2 {
        let mut terminal = Terminal::start(sandbox.command(["shell", "small-1"]));
        terminal.expect("console");
        terminal.expect("# ");
        terminal
            .send("sha256sum </result/big | cmp - /root/sum && cat /root/left /root/new; id -u\n");
        terminal.expect("from the build");
        terminal.expect("No such file");
        terminal.expect("0");
        terminal.send("echo x >/root/new; echo x >/bundle/x; echo x >/description/x; ls /bundle\n");
        terminal.expect("Read-only file system");
        terminal.expect("Read-only file system");
        terminal.expect("result.log");
        terminal.send("exit\n");
        assert_eq!(terminal.wait(), 0);
        assert!(terminal.is_restored());
    }
    sandbox.run(["prune", "small-1"]).expect(0, &[]);
    sandbox.run(["shell"]).expect(2, &["no failed build"]);
    assert_eq!(names(&sandbox.store()), [".builds"]);
    assert_eq!(names(&sandbox.store().join(".builds")), [] as [&str; 0]);
}

fn what_is_kept_is_bounded_and_held() {
    let sandbox = Sandbox::new("return 1");
    for _ in 0..6 {
        keep(&sandbox);
    }
    let builds = sandbox.store().join(".builds");
    assert_eq!(
        names(&builds),
        ["small-2", "small-3", "small-4", "small-5", "small-6"]
    );
    // Nothing is kept of what succeeds, or where nothing shall be.
    sandbox.build(&["--keep-failed=no"], &[]).expect(1, &[]);
    sandbox.script("touch /result/x");
    sandbox.build(&["--keep-failed=yes"], &[]).expect(0, &[]);
    assert_eq!(names(&builds).len(), 5);
    // Damaged or changed: reported, not booted.
    fs::write(builds.join("small-3/build.json"), "{").unwrap();
    sandbox
        .run(["logs", "small-3"])
        .expect(3, &["boxbuild prune small-3"]);
    assert!(sandbox.run(["builds"]).stdout.contains("small-3"));
    let pruned = sandbox.run(["prune", "--builds"]);
    pruned.expect(0, &[]);
    assert!(pruned.stdout.contains("5 items removed"), "{pruned:?}");
    assert_eq!(names(&builds), [] as [&str; 0]);
}

/// E5: five boots that failed, and no build was left that was worth a look.
fn a_build_that_never_came_to_kiwi_pushes_nothing_out() {
    let sandbox = Sandbox::new("return 1");
    keep(&sandbox);
    // boxroot/ cannot be copied: kiwi is never started.
    fs::create_dir_all(sandbox.description().join("boxroot/proc/version")).unwrap();
    let output = sandbox.build(&["--keep-failed=yes"], &[]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("✗ boot"), "{output:?}");
    assert!(!output.stderr.contains("it is kept"), "{output:?}");
    assert_eq!(names(&sandbox.store().join(".builds")), ["small-1"]);
}

/// E16: `prune` removed all unasked, and nothing emptied the cache.
fn not_all_goes_unasked() {
    let sandbox = Sandbox::new("return 1");
    keep(&sandbox);
    keep(&sandbox);
    let cache = sandbox.path("cache/boxbuild/kernels");
    fs::create_dir_all(&cache).unwrap();
    fs::write(cache.join("abc.elf"), vec![1; 1 << 20]).unwrap();
    fs::create_dir(sandbox.store().join(".fetch-leap.x86_64")).unwrap();
    fs::write(sandbox.store().join(".fetch-leap.x86_64/disk"), "half").unwrap();
    let prune = |words: &[&str]| {
        let mut command = sandbox.command([&["prune"], words].concat());
        ProcessOutput::of(command.env("XDG_CACHE_HOME", sandbox.path("cache")))
    };
    prune(&[]).expect(2, &["nothing was removed", "--all", "--dry-run"]);
    let shown = prune(&["--dry-run"]);
    shown.expect(0, &[]);
    for text in [
        "small-1",
        "small-2",
        "cache  kernels",
        "1 file",
        "1.0 MiB",
        ".fetch-leap.x86_64",
        "minute old",
        "4 items would be removed",
    ] {
        assert!(shown.stdout.contains(text), "{text}: {shown:?}");
    }
    let nothing = prune(&["--all", "--older-than", "1h"]);
    assert_eq!(
        (nothing.code, nothing.stdout.trim()),
        (0, "nothing to remove")
    );
    prune(&["small-1", "small-7"]).expect(2, &["no kept build 'small-7'"]);
    let one = prune(&["small-1", "--json"]);
    let one: serde_json::Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!(one["items"][0]["name"], "small-1");
    assert_eq!(one["items"][0]["removed"], true);
    assert_eq!(names(&sandbox.store().join(".builds")), ["small-2"]);
    let cached = prune(&["--cache"]);
    assert!(
        cached.stdout.contains("cache  kernels") && cached.stdout.contains("1 file removed"),
        "{cached:?}"
    );
    assert_eq!(names(&cache), [] as [&str; 0]);
    // On a terminal it asks.
    let mut terminal = Terminal::start(sandbox.command(["prune", "--older-than", "0"]));
    terminal.expect("remove all of it");
    terminal.send("n\n");
    terminal.expect("nothing was removed");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(names(&sandbox.store().join(".builds")), ["small-2"]);
    let all = prune(&["--all"]);
    assert!(all.stdout.contains("2 items removed"), "{all:?}");
    assert_eq!(names(&sandbox.store()), [".builds", "small"]);
    assert_eq!(names(&sandbox.store().join(".builds")), [] as [&str; 0]);
}

fn a_killed_boxbuild_keeps_nothing() {
    let sandbox = Sandbox::new("echo started >>$log; while :; do sleep 1; done");
    let started = sandbox.start_until(&["--verbose", "--keep-failed=yes"], "started");
    started.signal(Signal::SIGKILL);
    assert_eq!(started.finish().code, -1);
    sandbox.assert_nothing_left();
    // A build that is stopped is not kept either.
    let started = sandbox.start_until(&["--verbose", "--keep-failed=yes"], "started");
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
    sandbox.assert_nothing_left();
}

fn the_box_stays_open_for_its_user() {
    let sandbox = Sandbox::new("touch /result/image; echo built >/root/left");
    let mut terminal = Terminal::start(sandbox.build_command(&["--box-debug"], &[]));
    terminal.expect("the build succeeded");
    terminal.expect("# ");
    terminal.send("stty size; cat /root/left; sleep 100\n");
    terminal.expect("30 100");
    terminal.expect("built");
    // Ctrl-C is for the guest.
    std::thread::sleep(Duration::from_millis(500));
    terminal.send("\x03");
    terminal.send("echo still $((40 + 2)) here\n");
    terminal.expect("still 42 here");
    assert!(!terminal.is_restored());
    terminal.send("exit\n");
    terminal.expect("built in");
    assert_eq!(terminal.wait(), 0);
    assert!(terminal.is_restored());
    assert!(sandbox.target().join("image").exists());

    sandbox.script("return 7");
    let mut terminal = Terminal::start(sandbox.build_command(&["--box-debug"], &[]));
    terminal.expect("the build failed");
    terminal.expect("# ");
    terminal.send("\x1d\x1d\x1d");
    terminal.expect("exit code 7");
    assert_eq!(terminal.wait(), 1);
    assert!(terminal.is_restored());
    sandbox.assert_nothing_left();
}

/// By boxbuild itself, or after it was killed.
fn the_terminal_is_restored() {
    let sandbox = Sandbox::new("touch /result/image");
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut terminal = Terminal::start(sandbox.build_command(&["--box-debug"], &[]));
        terminal.expect("# ");
        assert!(!terminal.is_restored());
        let pid = i32::try_from(terminal.child.id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        assert_eq!(
            terminal.wait(),
            if signal == Signal::SIGTERM { 130 } else { -1 }
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        while !terminal.is_restored() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(terminal.is_restored(), "{signal}");
        sandbox.assert_nothing_left();
    }
}

fn the_console_needs_a_terminal() {
    let sandbox = Sandbox::new("return 1");
    sandbox
        .build(&["--box-debug"], &[])
        .expect(2, &["--box-debug needs a terminal"]);
    assert!(!sandbox.target().exists());
    keep(&sandbox);
    sandbox.run(["shell"]).expect(2, &["needs a terminal"]);
}
