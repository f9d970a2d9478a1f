//! The user's terminal, which takes some characters as commands.

use boxbuild_tests::pty::Terminal;

use super::guest::Guest;
use super::{IMAGE, controls};

crate::tests! {
    Program:
        logs_of_a_kept_build_do_not_command_the_terminal,
        a_code_does_not_command_the_terminal,
        reports_do_not_command_the_terminal,
        a_verbose_build_does_not_command_the_terminal;
}

/// For printf: sets a title, clears the screen in two ways, goes back to the line's start, rings, and has
/// what follows shown from right to left (U+202E).
const COMMANDS: &str =
    "\\033]0;owned\\007\\033[2J\\302\\2332J\\rover\\b\\b\\177\\017\\342\\200\\256";

/// Parts of [`COMMANDS`] as a terminal would see them.
const SEEN: [&str; 5] = ["\x1b]0;", "\x1b[2J", "\u{9b}2J", "\rover", "\u{202e}"];

/// Runs boxbuild on a terminal and returns all that it shows there.
fn on_a_terminal(guest: &Guest, words: &[&str], until: &str) -> String {
    let mut terminal = Terminal::start(guest.boxbuild(words));
    terminal.expect(until);
    terminal.wait();
    terminal.all().to_owned()
}

fn logs_of_a_kept_build_do_not_command_the_terminal() {
    let guest = Guest::machine();
    guest.script(&format!(
        "printf 'log {COMMANDS}\\nend of the log\\n' >>/bundle/result.log
         printf 'console {COMMANDS}\\nend of the console\\n' >/dev/console; exit 7"
    ));
    guest.build(&["--keep-failed=yes"]).expect(1, &[]);
    for (words, until) in [
        (&["logs"][..], "end of the log"),
        (&["logs", "--console"], "end of the console"),
    ] {
        let shown = on_a_terminal(&guest, words, until);
        for text in SEEN {
            assert!(!shown.contains(text), "{text:?} is in {shown:?}");
        }
    }
}

/// It stands in a message of boxbuild's own, and in the list of kept builds.
fn a_code_does_not_command_the_terminal() {
    let guest = Guest::machine();
    // The box's own side of the contract writes the code last, unless it powers off.
    guest.script(&format!(
        "printf '{COMMANDS}\\nboxbuild: run this as root' >/bundle/result.code; sync; poweroff -f; sleep 60"
    ));
    let output = guest.build(&["--boot", "compat", "--keep-failed=yes"]);
    output.expect(1, &["result.code"]);
    let list = guest.run(["builds"]);
    for output in [output, list] {
        let shown = output.stdout + &output.stderr;
        assert_eq!(controls(&shown), [] as [char; 0], "{shown:?}");
        let forged = |line: &str| line.trim_start().starts_with("boxbuild: run this");
        assert!(!shown.lines().any(forged), "{shown}");
    }
}

/// On the port that the box reports on, which nothing holds in a compat boot.
fn reports_do_not_command_the_terminal() {
    let guest = Guest::machine();
    guest.script(&format!(
        "for port in /sys/class/virtio-ports/*; do
             if grep -q control $port/name; then device=/dev/${{port##*/}}; fi
         done
         [ -c \"$device\" ] || exit 9
         printf 'boxbuild 1 phase build\\nboxbuild 1 unfit {COMMANDS}why\\n' >$device
         printf 'Kernel panic - not syncing: {COMMANDS}\\n' >/dev/console
         sleep 1; echo o >/proc/sysrq-trigger; sleep 60"
    ));
    let output = guest.build(&["--boot", "compat", "--verbose"]);
    output.expect(1, &["Kernel panic"]);
    let shown = output.stdout + &output.stderr;
    assert_eq!(controls(&shown), [] as [char; 0], "{shown:?}");
}

/// Names of results among it.
fn a_verbose_build_does_not_command_the_terminal() {
    let guest = Guest::machine();
    guest.script(&format!(
        "{IMAGE}printf 'log {COMMANDS}\\n' >>/bundle/result.log
         printf '[ INFO    ]: 00:00:00 | phase {COMMANDS}\\n' >>/bundle/result.log
         printf 'console {COMMANDS}\\n' >/dev/console
         mkdir \"/bundle/$(printf 'folder {COMMANDS}')\"; echo x >\"/bundle/$(printf 'file {COMMANDS}')\""
    ));
    let front = ["--verbose", "--timings"];
    let output = guest.build(&front);
    let shown = output.stdout + &output.stderr;
    assert_eq!(controls(&shown), [] as [char; 0], "{shown:?}");
    assert_eq!(output.code, 0, "{shown}");
    // Where lines are redrawn and coloured.
    let mut terminal = Terminal::start(guest.command(&front));
    terminal.expect("built in");
    assert_eq!(terminal.wait(), 0);
    for text in SEEN {
        assert!(!terminal.all().contains(text), "{text:?} is shown");
    }
}
