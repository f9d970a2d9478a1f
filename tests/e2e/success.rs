//! Builds that succeed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use boxbuild_tests::{Running, Sandbox, names, scaled_timeout};

crate::tests! {
    Engine:
        a_build_publishes_its_results,
        arguments_of_any_bytes_and_length_arrive,
        two_builds_at_once,
        a_busy_guest_is_not_hung,
        a_console_flood_is_survived,
        the_share_works_under_the_real_driver,
        without_network,
        verbose_shows_log_and_console;
    Program:
        paths_of_any_bytes,
        an_earlier_result_is_replaced,
        files_of_the_host_are_seen;
}

fn a_build_publishes_its_results() {
    let sandbox = Sandbox::new(
        "echo image >/result/image.raw; chmod 0600 /result/image.raw
         touch /description/written 2>/dev/null && echo 'the description is writable' >>$log
         echo done >>$log",
    );
    let output = sandbox.build(&[], &[]);
    output.expect(0, &["boot", "prepare", "bundle"]);
    let image = sandbox.target().join("image.raw");
    assert!(
        output.stdout.contains(image.to_str().unwrap()),
        "{}",
        output.stdout
    );
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    assert_eq!(metadata.uid(), nix::unistd::getuid().as_raw());
    assert_eq!(
        names(&sandbox.target()),
        ["image.raw", "result.code", "result.log"]
    );
    assert_eq!(
        fs::read_to_string(sandbox.target().join("result.code")).unwrap(),
        "0\n"
    );
    let log = fs::read_to_string(sandbox.target().join("result.log")).unwrap();
    assert!(log.contains("done") && !log.contains("writable"), "{log}");
    sandbox.assert_nothing_left();
}

fn files_of_the_host_are_seen() {
    let sandbox = Sandbox::new(
        "for word; do case $word in */key) key=$word;; */repo) repo=${word#dir://};; esac; done
         repo=${repo%%,*}
         cat \"$key\" \"$repo/index\" \"${repo%repo}shared/in\" >/result/seen
         touch \"$repo/written\" 2>/dev/null && echo 'the repository is writable' >>/result/seen
         ls \"${key%key}\" >>/result/seen
         echo out >\"${repo%repo}shared/out\"",
    );
    let make = |name: &str, content: &str| {
        let path = sandbox.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    };
    let key = make("it's mine/key", "a key\n");
    make("it's mine/other", "");
    make("repo/index", "an index\n");
    make("shared/in", "shared\n");
    let shared = sandbox.path("shared");
    let repo = format!("dir://{}", sandbox.path("repo").display());
    let output = sandbox.build(
        &["--shared-path", shared.to_str().unwrap()],
        &["--signing-key", key.to_str().unwrap(), "--set-repo", &repo],
    );
    output.expect(0, &[]);
    assert_eq!(
        fs::read_to_string(sandbox.target().join("seen")).unwrap(),
        "a key\nan index\nshared\nkey\n"
    );
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "out\n");
    assert!(!sandbox.path("repo/written").exists());
    sandbox.assert_nothing_left();
}

fn arguments_of_any_bytes_and_length_arrive() {
    let sandbox = Sandbox::new("printf '%s\\n' \"$@\" >/result/args");
    let odd = "it's $(odd) \"a,b\" `x` \\ *\tä\nnew line";
    let long = format!("long={}", "x".repeat(5000));
    let output = sandbox.build(
        &["--profile", "One Two", "--setenv", "A=b c", "--debug"],
        &[
            "--add-package",
            odd,
            &format!("--set-type-attr={long}"),
            "--clear-cache",
        ],
    );
    output.expect(0, &[]);
    let args = fs::read_to_string(sandbox.target().join("args")).unwrap();
    let expected = format!(
        "--profile\nOne Two\n--setenv\nA=b c\n--debug\nsystem\nbuild\n--add-package\n{odd}\n\
         --set-type-attr\n{long}\n--clear-cache\n--description\n/description\n--target-dir\n\
         /result\n"
    );
    assert_eq!(args, expected);
}

fn two_builds_at_once() {
    let script = "head -c 5000000 /dev/urandom >/result/image; sha256sum /result/image >>$log";
    let sandboxes = [Sandbox::new(script), Sandbox::new(script)];
    let second = Running::start(&mut sandboxes[1].build_command(&[], &[]));
    sandboxes[0].build(&[], &[]).expect(0, &[]);
    second.finish().expect(0, &[]);
    let images = sandboxes
        .each_ref()
        .map(|sandbox| fs::read(sandbox.target().join("image")).unwrap());
    assert_ne!(images[0], images[1]);
}

fn paths_of_any_bytes() {
    let description = OsStr::from_bytes(b"d, 'x' \"y\" $HOME `z`\n\xff");
    let target = OsStr::from_bytes(b"t,file=/x \xfe'");
    let sandbox = Sandbox::named(
        "cp /description/script.sh /result/copy",
        description,
        target,
    );
    sandbox.build(&[], &[]).expect(0, &[]);
    assert!(sandbox.target().join("copy").is_file());
}

fn a_busy_guest_is_not_hung() {
    let limit = scaled_timeout(12).as_secs();
    let sandbox = Sandbox::new(&format!(
        "end=$(($(cut -d. -f1 /proc/uptime) + {}))
         while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do :; done; touch /result/x",
        limit + limit / 2
    ));
    let limit = format!("{limit}s");
    sandbox
        .build(&["--timeout-idle", &limit], &[])
        .expect(0, &[]);
}

fn a_console_flood_is_survived() {
    let sandbox = Sandbox::new(
        "yes 'a flood of console output' | head -n 6000 >/dev/console; touch /result/x",
    );
    sandbox.build(&[], &[]).expect(0, &[]);
}

fn the_share_works_under_the_real_driver() {
    let sandbox = Sandbox::new(include_str!("share.sh"));
    let output = sandbox.build(&[], &[]);
    let log = fs::read_to_string(sandbox.target().join("result.log")).unwrap_or_default();
    assert_eq!(output.code, 0, "{}\n{log}", output.stderr);
    assert!(log.contains("all share checks passed"), "{log}");
}

fn an_earlier_result_is_replaced() {
    let sandbox = Sandbox::new("echo first >/result/image; echo other >/result/other");
    sandbox.build(&[], &[]).expect(0, &[]);
    fs::create_dir(sandbox.target().join("mine")).unwrap();
    sandbox.script("echo second >/result/image");
    sandbox.build(&[], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(sandbox.target().join("image")).unwrap(),
        "second\n"
    );
    assert_eq!(
        names(&sandbox.target()),
        ["image", "mine", "other", "result.code", "result.log"],
        "what a build does not replace stays"
    );
}

fn without_network() {
    let script = "ls /sys/class/net >/result/interfaces";
    let sandbox = Sandbox::new(script);
    sandbox.build(&["--network", "none"], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(sandbox.target().join("interfaces")).unwrap(),
        "lo\n"
    );
    sandbox.build(&[], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(sandbox.target().join("interfaces")).unwrap(),
        "lan0\nlo\n"
    );
}

fn verbose_shows_log_and_console() {
    let sandbox =
        Sandbox::new("echo to-the-log >>$log; echo to-the-console >/dev/console; touch /result/x");
    sandbox
        .build(&["--verbose"], &[])
        .expect(0, &["to-the-log", "to-the-console"]);
}
