//! What other processes of the host, programs that read JSON, and files learn of the user's secrets.

use std::fs;
use std::path::Path;
use std::process::Command;

use boxbuild_tests::{ProcessOutput, Running, Watch, scaled_timeout};

use super::guest::Guest;
use super::{IMAGE, files_with};

crate::tests! {
    Engine:
        a_password_of_a_proxy_is_in_no_command_line;
    Program:
        a_password_of_a_proxy_is_in_no_plan,
        a_password_of_a_proxy_is_in_nothing_that_is_kept;
}

/// The password of the proxies' user.
const PASSWORD: &str = "hunter2pass";

/// Variables with the password, in both spellings and in odd forms.
const PROXIES: [(&str, &str); 4] = [
    ("http_proxy", "http://me:hunter2pass@10.1.2.3:3128/"),
    ("HTTPS_PROXY", "http://hunter2pass@10.1.2.3:3128/"),
    ("ftp_proxy", "me:hunter2pass@10.1.2.3:3128"),
    ("no_proxy", "localhost,10.0.0.0/8"),
];

/// Fails if the password is in what was printed.
#[track_caller]
fn assert_hidden(output: &ProcessOutput) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(PASSWORD), "the password is shown:\n{text}");
    }
}

/// Command lines of all processes of the host, of any user, that have the password.
fn command_lines() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(PASSWORD))
        .collect()
}

/// Runs `command`, a build by this guest, and looks at all processes meanwhile. `told`: the guest gets the
/// password, which it needs for its downloads.
fn look_at_command_lines(guest: &Guest, mut command: Command, told: bool) {
    guest.script(&format!(
        "{IMAGE}echo \"$http_proxy\" >/bundle/proxy; touch /bundle/here; sleep 2"
    ));
    command.envs(PROXIES);
    let mut build = Running::start(&mut command).limit(scaled_timeout(120));
    let watch = Watch::start(build.pid());
    let mut lines = Vec::new();
    build.wait_until("its guest", |_| {
        lines.extend(command_lines());
        super::find_below(&guest.target(), "here").is_some()
    });
    lines.extend(command_lines());
    let output = build.finish();
    let seen = watch.processes().into_iter();
    lines.extend(
        seen.map(|process| process.command_line)
            .filter(|line| line.contains(PASSWORD)),
    );
    assert_eq!(lines, [""; 0]);
    assert_hidden(&output);
    output.expect(0, &[]);
    if told {
        let proxy = fs::read_to_string(guest.target().join("proxy")).unwrap();
        assert_eq!(proxy.trim(), PROXIES[0].1);
    }
}

fn a_password_of_a_proxy_is_in_no_command_line() {
    for (style, told) in [("fast", true), ("compat", false)] {
        let guest = Guest::machine();
        let command = guest.command(&["--boot", style]);
        look_at_command_lines(&guest, command, told);
    }
}

/// Of boxbuild's own way into a container, and of an image's entry point.
pub(super) fn command_lines_of_containers() {
    let guest = Guest::container();
    look_at_command_lines(&guest, guest.command(&[]), true);
    let command = guest.published();
    look_at_command_lines(&guest, command, true);
}

pub(super) fn plans(guest: &Guest, styles: &[&[&str]]) {
    guest.script("");
    for style in styles {
        for form in [&["--dry-run"][..], &["--dry-run", "--json"]] {
            let mut command = guest.command(&[form, style].concat());
            let output = ProcessOutput::of(command.envs(PROXIES));
            output.expect(0, &[]);
            assert_hidden(&output);
            // The rest of it is shown.
            let shown = form.len() == 1 || output.stdout.contains("10.1.2.3:3128");
            assert!(shown, "{}", output.stdout);
        }
    }
}

fn a_password_of_a_proxy_is_in_no_plan() {
    plans(
        &Guest::machine(),
        &[&["--boot", "fast"], &["--boot", "compat"]],
    );
}

/// The log is the guest's own; it may say what it likes.
fn a_password_of_a_proxy_is_in_nothing_that_is_kept() {
    let guest = Guest::machine();
    guest.script("exit 7");
    for style in ["fast", "compat"] {
        let front = ["--json", "--keep-failed=yes", "--timings", "--boot", style];
        let mut command = guest.command(&front);
        let output = Running::start(command.envs(PROXIES)).finish();
        output.expect(1, &[]);
        assert_hidden(&output);
        let found = files_with(&guest.path("."), PASSWORD);
        assert_eq!(found, [] as [&Path; 0], "{style}");
        let list = guest.run(["builds", "--json"]);
        assert_hidden(&list);
    }
}
