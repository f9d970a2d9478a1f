//! Builds that succeed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use boxbuild_tests::{Bench, names, patient};

pub(crate) const TESTS: &[(&str, fn())] = &[
    (
        "a_build_publishes_its_results",
        a_build_publishes_its_results,
    ),
    (
        "b14_arguments_of_any_bytes_and_length_arrive",
        b14_arguments_of_any_bytes_and_length_arrive,
    ),
    ("two_builds_at_once", two_builds_at_once),
    ("paths_of_any_bytes", paths_of_any_bytes),
    ("a_busy_guest_is_not_hung", a_busy_guest_is_not_hung),
    ("a_console_flood_is_survived", a_console_flood_is_survived),
    (
        "the_share_works_under_the_real_driver",
        the_share_works_under_the_real_driver,
    ),
    (
        "an_earlier_result_is_replaced",
        an_earlier_result_is_replaced,
    ),
    ("without_network", without_network),
    ("files_of_the_host_are_seen", files_of_the_host_are_seen),
    (
        "verbose_shows_log_and_console",
        verbose_shows_log_and_console,
    ),
];

fn a_build_publishes_its_results() {
    let bench = Bench::new(
        "echo image >/result/image.raw; chmod 0600 /result/image.raw
         touch /description/written 2>/dev/null && echo 'the description is writable' >>$log
         echo done >>$log",
    );
    let said = bench.build(&[], &[]);
    said.expect(0, &["boot", "prepare", "bundle"]);
    let image = bench.target().join("image.raw");
    assert!(
        said.stdout.contains(image.to_str().unwrap()),
        "{}",
        said.stdout
    );
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    assert_eq!(metadata.uid(), nix::unistd::getuid().as_raw());
    assert_eq!(
        names(&bench.target()),
        ["image.raw", "result.code", "result.log"]
    );
    assert_eq!(
        fs::read_to_string(bench.target().join("result.code")).unwrap(),
        "0\n"
    );
    let log = fs::read_to_string(bench.target().join("result.log")).unwrap();
    assert!(log.contains("done") && !log.contains("writable"), "{log}");
    bench.assert_nothing_left();
}

fn files_of_the_host_are_seen() {
    let bench = Bench::new(
        "for word; do case $word in */key) key=$word;; */repo) repo=${word#dir://};; esac; done
         repo=${repo%%,*}
         cat \"$key\" \"$repo/index\" \"${repo%repo}shared/in\" >/result/seen
         touch \"$repo/written\" 2>/dev/null && echo 'the repository is writable' >>/result/seen
         ls \"${key%key}\" >>/result/seen
         echo out >\"${repo%repo}shared/out\"",
    );
    let make = |name: &str, content: &str| {
        let path = bench.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    };
    let key = make("it's mine/key", "a key\n");
    make("it's mine/other", "");
    make("repo/index", "an index\n");
    make("shared/in", "shared\n");
    let shared = bench.path("shared");
    let repo = format!("dir://{}", bench.path("repo").display());
    let said = bench.build(
        &["--shared-path", shared.to_str().unwrap()],
        &["--signing-key", key.to_str().unwrap(), "--set-repo", &repo],
    );
    said.expect(0, &[]);
    assert_eq!(
        fs::read_to_string(bench.target().join("seen")).unwrap(),
        "a key\nan index\nshared\nkey\n"
    );
    assert_eq!(fs::read_to_string(shared.join("out")).unwrap(), "out\n");
    assert!(!bench.path("repo/written").exists());
    bench.assert_nothing_left();
}

fn b14_arguments_of_any_bytes_and_length_arrive() {
    let bench = Bench::new("printf '%s\\n' \"$@\" >/result/args");
    let odd = "it's $(odd) \"a,b\" `x` \\ *\tä\nnew line";
    let long = "x".repeat(5000);
    let said = bench.build(
        &["--profile", "One Two", "--setenv", "A=b c", "--debug"],
        &[
            "--add-package",
            odd,
            &format!("--set-type-attr={long}"),
            "--clear-cache",
        ],
    );
    said.expect(0, &[]);
    let args = fs::read_to_string(bench.target().join("args")).unwrap();
    let expected = format!(
        "--profile\nOne Two\n--setenv\nA=b c\n--debug\nsystem\nbuild\n--add-package\n{odd}\n\
         --set-type-attr\n{long}\n--clear-cache\n--description\n/description\n--target-dir\n\
         /result\n"
    );
    assert_eq!(args, expected);
}

fn two_builds_at_once() {
    let script = "head -c 5000000 /dev/urandom >/result/image; sha256sum /result/image >>$log";
    let benches = [Bench::new(script), Bench::new(script)];
    let second = benches[1].build_command(&[], &[]).spawn().unwrap();
    benches[0].build(&[], &[]).expect(0, &[]);
    assert!(second.wait_with_output().unwrap().status.success());
    let images = benches
        .each_ref()
        .map(|bench| fs::read(bench.target().join("image")).unwrap());
    assert_ne!(images[0], images[1]);
}

fn paths_of_any_bytes() {
    let description = OsStr::from_bytes(b"d, 'x' \"y\" $HOME `z`\n\xff");
    let target = OsStr::from_bytes(b"t,file=/x \xfe'");
    let bench = Bench::named(
        "cp /description/script.sh /result/copy",
        description,
        target,
    );
    bench.build(&[], &[]).expect(0, &[]);
    assert!(bench.target().join("copy").is_file());
}

fn a_busy_guest_is_not_hung() {
    let limit = patient(12);
    let bench = Bench::new(&format!(
        "end=$(($(cut -d. -f1 /proc/uptime) + {}))
         while [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do :; done; touch /result/x",
        limit * 2 + 1
    ));
    let limit = format!("{limit}s");
    bench.build(&["--timeout-idle", &limit], &[]).expect(0, &[]);
}

fn a_console_flood_is_survived() {
    let bench =
        Bench::new("yes 'a flood of console output' | head -n 6000 >/dev/console; touch /result/x");
    bench.build(&[], &[]).expect(0, &[]);
}

fn the_share_works_under_the_real_driver() {
    let bench = Bench::new(include_str!("share.sh"));
    let said = bench.build(&[], &[]);
    let log = fs::read_to_string(bench.target().join("result.log")).unwrap_or_default();
    assert_eq!(said.code, 0, "{}\n{log}", said.stderr);
    assert!(log.contains("all share checks passed"), "{log}");
}

fn an_earlier_result_is_replaced() {
    let bench = Bench::new("echo first >/result/image; echo other >/result/other");
    bench.build(&[], &[]).expect(0, &[]);
    fs::create_dir(bench.target().join("mine")).unwrap();
    bench.script("echo second >/result/image");
    bench.build(&[], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(bench.target().join("image")).unwrap(),
        "second\n"
    );
    assert_eq!(
        names(&bench.target()),
        ["image", "mine", "other", "result.code", "result.log"],
        "what a build does not replace stays"
    );
}

fn without_network() {
    let script = "ls /sys/class/net >/result/interfaces";
    let bench = Bench::new(script);
    bench.build(&["--network", "none"], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(bench.target().join("interfaces")).unwrap(),
        "lo\n"
    );
    bench.build(&[], &[]).expect(0, &[]);
    assert_eq!(
        fs::read_to_string(bench.target().join("interfaces")).unwrap(),
        "lan0\nlo\n"
    );
}

fn verbose_shows_log_and_console() {
    let bench =
        Bench::new("echo to-the-log >>$log; echo to-the-console >/dev/console; touch /result/x");
    bench
        .build(&["--verbose"], &[])
        .expect(0, &["to-the-log", "to-the-console"]);
}
