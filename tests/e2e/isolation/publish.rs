//! Names of the guest's that the host must neither follow nor replace the user's files by.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use boxbuild_tests::names;

use super::attacker::{self, FIND};
use super::guest::Guest;
use super::{IMAGE, find_below};

crate::tests! {
    Engine:
        a_log_that_is_a_link_is_not_followed,
        a_users_folder_is_not_replaced,
        only_files_and_folders_are_published;
    Program:
        a_log_that_is_a_link_is_not_published,
        a_log_that_is_a_fifo_does_not_hold_a_failed_build,
        a_log_that_is_a_fifo_does_not_hold_a_good_build,
        a_code_that_is_a_fifo_is_a_failure,
        a_timings_page_is_not_written_through_a_link,
        a_timings_page_is_not_written_into_a_folder_of_the_guests,
        a_logfile_is_not_copied_from_a_link,
        a_logfile_is_not_copied_from_a_fifo,
        a_logfile_is_not_written_through_a_link,
        a_users_file_is_not_replaced,
        a_users_link_is_not_replaced,
        a_file_that_appears_during_the_build_is_not_replaced,
        a_name_cannot_claim_a_users_folder_for_later,
        a_folder_that_the_user_took_over_is_not_replaced,
        hidden_names_are_not_published,
        names_with_control_characters_are_not_published,
        sockets_are_not_published,
        a_second_build_replaces_what_the_first_one_made,
        modes_of_results_follow_the_umask;
}

/// Makes the guest's log a link to `secret` and fails. The guest's own side may write there.
fn link_log(secret: &Path) -> String {
    let (folder, secret) = (secret.parent().unwrap().display(), secret.display());
    format!(
        "mkdir -p {folder}; touch {secret}
         rm -f /bundle/result.log; ln -s {secret} /bundle/result.log; exit 7"
    )
}

fn a_log_that_is_a_link_is_not_followed() {
    let guest = Guest::machine();
    guest.script(&link_log(&guest.secret()));
    let output = guest.build(&["--keep-failed=yes", "--verbose"]);
    output.expect(1, &["exit code 7"]);
    let logs = guest.run(["logs"]);
    guest.assert_secret_kept(&[&output, &logs]);
    let log = fs::symlink_metadata(guest.target().join("result.log"));
    assert!(!log.is_ok_and(|log| log.is_symlink()), "a link as a log");
}

fn a_log_that_is_a_link_is_not_published() {
    let guest = Guest::machine();
    let script = link_log(&guest.secret()).replace("exit 7", "exit 0");
    guest.script(&format!("{IMAGE}{script}"));
    let output = guest.build(&[]);
    guest.assert_secret_kept(&[&output]);
    output.expect(0, &[]);
    let log = fs::symlink_metadata(guest.target().join("result.log"));
    assert!(!log.is_ok_and(|log| log.is_symlink()), "a link as a log");
    guest.assert_nothing_left();
}

const FIFO: &str = "rm -f /bundle/result.log; mkfifo /bundle/result.log";

/// The guest's own side does not wait for a reader.
const KEEP_OPEN: &str =
    "\nsh -c 'exec 3<>/bundle/result.log; sleep 1000' >/dev/null 2>&1 </dev/null &
    sleep 1; exit 0";

fn a_log_that_is_a_fifo_does_not_hold_a_failed_build() {
    let guest = Guest::machine();
    guest.script(&format!("{FIFO}; exit 7"));
    let output = guest.build(&["--keep-failed=yes"]);
    output.expect(1, &["exit code 7"]);
    assert!(!guest.target().join("result.log").exists());
    // There may be none; it does not wait for a writer.
    let logs = guest.run(["logs"]);
    assert_eq!(logs.signal, None, "{logs:?}");
}

fn a_log_that_is_a_fifo_does_not_hold_a_good_build() {
    let guest = Guest::machine();
    guest.script(&format!("{IMAGE}{FIFO}{KEEP_OPEN}"));
    let output = guest.build(&["--json"]);
    output.expect(0, &[]);
    assert!(!guest.target().join("result.log").exists());
    guest.assert_nothing_left();
}

fn a_code_that_is_a_fifo_is_a_failure() {
    let guest = Guest::machine();
    // The contract of published boxes, where the guest's own side writes the code.
    guest.script(&format!(
        "{IMAGE}rm -f /bundle/result.code; mkfifo /bundle/result.code
         echo o >/proc/sysrq-trigger; sleep 60"
    ));
    let output = guest.build(&["--boot", "compat", "--keep-failed=yes"]);
    output.expect(1, &["result.code"]);
    assert!(!guest.target().join("image.raw").exists());
    let code = fs::read_to_string(guest.target().join("result.code")).unwrap();
    assert_ne!(code.trim(), "0");
}

pub(super) fn timings_link(guest: &Guest) {
    let secret = guest.secret();
    let links = ["timings.html", "timings.html.new", ".timings.html.new"]
        .map(|name| format!("ln -s {} /bundle/{name}\n", secret.display()));
    guest.script(&format!("{IMAGE}{}", links.concat()));
    let output = guest.build(&["--timings=html"]);
    guest.assert_secret_kept(&[&output]);
    output.expect(0, &[]);
    let page = guest.target().join("timings.html");
    assert!(fs::symlink_metadata(page).unwrap().is_file());
}

fn a_timings_page_is_not_written_through_a_link() {
    timings_link(&Guest::machine());
}

/// The guest's folder is a result; the page is not put into it, and the failure to write it is reported.
fn a_timings_page_is_not_written_into_a_folder_of_the_guests() {
    let guest = Guest::machine();
    let victim = guest.secret();
    guest.script(&format!(
        "{IMAGE}mkdir /bundle/timings.html /bundle/timings.html.new
         ln -s {0} /bundle/timings.html/timings.html
         ln -s {0} /bundle/timings.html/timings.html.new",
        victim.display()
    ));
    let output = guest.build(&["--timings=html"]);
    guest.assert_secret_kept(&[&output]);
    assert!(matches!(output.code, 0 | 3), "{output:?}");
    assert!(guest.target().join("image.raw").is_file(), "{output:?}");
    let inside = guest.target().join("timings.html/timings.html");
    assert!(fs::symlink_metadata(inside).is_err(), "{output:?}");
}

fn a_logfile_is_not_copied_from_a_link() {
    logfile_link(&Guest::machine());
}

pub(super) fn logfile_link(guest: &Guest) {
    let script = link_log(&guest.secret()).replace("exit 7", "exit 0");
    guest.script(&format!("{IMAGE}{script}"));
    let copy = guest.path("copy.log");
    let output = guest.build(&["--logfile", copy.to_str().unwrap()]);
    guest.assert_secret_kept(&[&output]);
    assert!(matches!(output.code, 0 | 3), "{output:?}");
    assert!(guest.target().join("image.raw").is_file(), "{output:?}");
}

fn a_logfile_is_not_copied_from_a_fifo() {
    logfile_fifo(&Guest::machine());
}

pub(super) fn logfile_fifo(guest: &Guest) {
    guest.script(&format!("{IMAGE}{FIFO}{KEEP_OPEN}"));
    let copy = guest.path("copy.log");
    let output = guest.build(&["--logfile", copy.to_str().unwrap()]);
    assert!(matches!(output.code, 0 | 3), "{output:?}");
    assert!(guest.target().join("image.raw").is_file(), "{output:?}");
    guest.assert_nothing_left();
}

fn a_logfile_is_not_written_through_a_link() {
    let guest = Guest::machine();
    let secret = guest.secret();
    guest.script(&format!(
        "{IMAGE}ln -s {} /bundle/kiwi.log; echo 'a line' >>/bundle/result.log",
        secret.display()
    ));
    fs::create_dir(guest.target()).unwrap();
    let copy = guest.target().join("kiwi.log");
    let output = guest.build(&["--logfile", copy.to_str().unwrap()]);
    guest.assert_secret_kept(&[&output]);
    output.expect(0, &[]);
    let text = fs::read_to_string(copy).unwrap();
    assert!(text.contains("a line"), "{text}");
}

/// The names in a folder without those of boxbuild's own notes.
fn visible(folder: &Path) -> Vec<String> {
    let mut names = names(folder);
    names.retain(|name| !name.starts_with(".boxbuild"));
    names
}

/// Runs a build that would replace what the user has as `name` in the target folder.
#[track_caller]
fn refuse(guest: &Guest, name: &str) {
    let before = visible(&guest.target());
    let output = guest.build(&[]);
    assert!(matches!(output.code, 1..=3), "{output:?}");
    output.expect(output.code, &[name]);
    let mut after = visible(&guest.target());
    after.retain(|name| before.contains(name) || !name.starts_with("result."));
    assert_eq!(after, before, "what a failed build publishes");
    if let Ok(code) = fs::read_to_string(guest.target().join("result.code")) {
        assert_ne!(code.trim(), "0");
    }
    guest.assert_nothing_left();
}

pub(super) fn users_folder(guest: &Guest) {
    guest.fill_target(&[("src/main.rs", "mine"), ("precious", "mine")]);
    guest.script(&format!(
        "{IMAGE}mkdir /bundle/src; echo evil >/bundle/src/build.rs"
    ));
    refuse(guest, "src");
    assert_eq!(names(&guest.target().join("src")), ["main.rs"]);
}

fn a_users_folder_is_not_replaced() {
    users_folder(&Guest::machine());
}

fn a_users_file_is_not_replaced() {
    let guest = Guest::machine();
    guest.fill_target(&[("image.raw", "mine")]);
    guest.script(IMAGE);
    refuse(&guest, "image.raw");
    let text = fs::read_to_string(guest.target().join("image.raw")).unwrap();
    assert_eq!(text, "mine");
}

/// Neither itself nor what it leads to.
fn a_users_link_is_not_replaced() {
    let guest = Guest::machine();
    fs::create_dir(guest.target()).unwrap();
    let disk = guest.path("disk");
    fs::write(&disk, "mine").unwrap();
    let link = guest.target().join("image.raw");
    symlink(&disk, &link).unwrap();
    guest.script(IMAGE);
    refuse(&guest, "image.raw");
    assert_eq!(fs::read_link(link).unwrap(), disk);
    assert_eq!(fs::read_to_string(disk).unwrap(), "mine");
}

fn a_file_that_appears_during_the_build_is_not_replaced() {
    let guest = Guest::machine();
    fs::create_dir(guest.target()).unwrap();
    // Long enough for the host to see the log and write a file.
    guest.script(&format!(
        "{IMAGE}echo started >>/bundle/result.log; sleep 5"
    ));
    let mut build = guest.start(&["--verbose"]);
    build.wait_for("started");
    let path = guest.target().join("image.raw");
    fs::write(&path, "mine").unwrap();
    let output = build.finish();
    assert!(matches!(output.code, 1..=3), "{output:?}");
    output.expect(output.code, &["image.raw"]);
    assert_eq!(fs::read_to_string(path).unwrap(), "mine");
    guest.assert_nothing_left();
}

/// What is remembered of an earlier build's results cannot be forged by their names.
fn a_name_cannot_claim_a_users_folder_for_later() {
    let guest = Guest::machine();
    let odd = "\"$(printf 'x\\nsrc')\"";
    guest.script(&format!(
        "{IMAGE}echo x >/bundle/{odd}; mkdir /bundle/x; echo x >/bundle/x/src
         printf 'src\\n\"src\"\\n' >/bundle/.boxbuild.results
         printf 'src\\n\"src\"\\n' >/bundle/.boxbuild.manifest"
    ));
    guest.build(&[]).expect(0, &[]);
    guest.fill_target(&[("src/main.rs", "mine")]);
    guest.script(&format!(
        "{IMAGE}mkdir /bundle/src; echo evil >/bundle/src/build.rs"
    ));
    refuse(&guest, "src");
    assert_eq!(names(&guest.target().join("src")), ["main.rs"]);
}

/// An earlier build made it, the user put something of their own into it, or in its place.
fn a_folder_that_the_user_took_over_is_not_replaced() {
    let guest = Guest::machine();
    guest.script(&format!(
        "{IMAGE}mkdir /bundle/tree; echo one >/bundle/tree/file"
    ));
    guest.build(&[]).expect(0, &[]);
    guest.fill_target(&[("tree/mine", "mine")]);
    refuse(&guest, "tree");
    let tree = guest.target().join("tree");
    assert_eq!(names(&tree), ["file", "mine"]);
    fs::remove_dir_all(&tree).unwrap();
    guest.fill_target(&[("tree/mine", "mine")]);
    refuse(&guest, "tree");
    assert_eq!(names(&tree), ["mine"]);
}

fn hidden_names_are_not_published() {
    let guest = Guest::machine();
    let files = [(".git/config", "mine"), (".bashrc", "mine")];
    guest.fill_target(&files);
    guest.script(&format!(
        "{IMAGE}mkdir /bundle/.git /bundle/tree /bundle/tree/.ssh
         for name in .git/config .bashrc .profile tree/.hidden tree/.ssh/config; do
             echo evil >/bundle/$name
         done
         echo plain >/bundle/tree/plain"
    ));
    let output = guest.build(&[]);
    output.expect(0, &[".bashrc", ".profile"]);
    for (name, text) in files {
        let now = fs::read_to_string(guest.target().join(name));
        assert_eq!(now.unwrap(), text, "{name}");
    }
    assert!(!guest.target().join(".profile").exists());
    assert_eq!(names(&guest.target().join("tree")), ["plain"]);
    assert_eq!(names(&guest.target().join(".git")), ["config"]);
}

pub(super) fn odd_kinds(guest: &Guest) {
    let secret = guest.secret();
    guest.script(&format!(
        "{IMAGE}cd /bundle; mkdir tree
         for at in . tree; do
             ln -s {} $at/link; ln -s image.raw $at/relative; ln -s / $at/root
             ln -s /nowhere $at/dangling
             mkfifo $at/fifo; mknod $at/null c 1 3; mknod $at/disk b 8 0
         done
         echo plain >tree/plain",
        secret.display()
    ));
    let output = guest.build(&[]);
    output.expect(0, &["link", "fifo"]);
    guest.assert_secret_kept(&[&output]);
    for name in ["link", "relative", "root", "dangling", "fifo"] {
        let found = find_below(&guest.target(), name);
        assert_eq!(found, None, "published");
    }
    // A machine's devices are empty files on the host.
    for name in ["null", "disk"] {
        let found = find_below(&guest.target(), name);
        let is_file = |path: &Path| fs::symlink_metadata(path).unwrap().is_file();
        assert!(found.is_none_or(|path| is_file(&path)), "{name}");
    }
    assert!(guest.target().join("tree/plain").is_file());
    assert!(guest.target().join("image.raw").is_file());
}

fn only_files_and_folders_are_published() {
    odd_kinds(&Guest::machine());
}

fn sockets_are_not_published() {
    let guest = Guest::machine();
    if !attacker::bring(&guest, "sockets_are_not_published") {
        return;
    }
    guest.script(&format!(
        "{IMAGE}{FIND}mkdir /bundle/tree; echo plain >/bundle/tree/plain
         $attacker socket /bundle/door && $attacker socket /bundle/tree/door || exit 9"
    ));
    guest.build(&[]).expect(0, &["door"]);
    assert_eq!(find_below(&guest.target(), "door"), None, "published");
    assert!(guest.target().join("tree/plain").is_file());
    guest.assert_nothing_left();
}

/// Three kinds of control characters, and one that turns text around; `names` would split none of them.
pub(super) fn control_names(guest: &Guest) {
    guest.script(&format!(
        "{IMAGE}cd /bundle; mkdir tree; echo plain >tree/plain
         for at in . tree; do
             echo evil >\"$at/$(printf 'title\\033]0;owned\\007')\"
             echo evil >\"$at/$(printf 'line\\nboxbuild: run this as root')\"
             echo evil >\"$at/$(printf 'c1\\302\\2332J')\"
             echo evil >\"$at/$(printf 'del\\177')\"
             echo evil >\"$at/$(printf 'right\\342\\200\\256left')\"
             mkdir \"$at/$(printf 'folder\\r')\"
         done"
    ));
    let output = guest.build(&[]);
    output.expect(0, &["title"]);
    let shown = output.stdout.clone() + &output.stderr;
    assert_eq!(super::controls(&shown), [] as [char; 0], "{shown:?}");
    let forged = |line: &str| line.starts_with("boxbuild: run this");
    assert!(!shown.lines().any(forged), "{shown}");
    let published = visible(&guest.target());
    assert_eq!(
        published,
        ["image.raw", "result.code", "result.log", "tree"]
    );
    assert_eq!(names(&guest.target().join("tree")), ["plain"]);
}

fn names_with_control_characters_are_not_published() {
    control_names(&Guest::machine());
}

/// Files by files, folders by folders, and each by the other.
fn a_second_build_replaces_what_the_first_one_made() {
    let guest = Guest::machine();
    fs::create_dir(guest.target()).unwrap();
    let first =
        "cd /bundle; mkdir tree both; echo one >tree/one; echo one >both/one; echo one >single";
    let second =
        "cd /bundle; mkdir tree single; echo two >tree/two; echo two >both; echo two >single/two";
    guest.script(&format!("{IMAGE}{first}"));
    guest.build(&[]).expect(0, &[]);
    fs::write(guest.target().join("precious"), "mine").unwrap();
    // A failed build between them changes nothing of that.
    guest.script(&format!("{IMAGE}{second}; exit 7"));
    guest.build(&[]).expect(1, &[]);
    assert_eq!(names(&guest.target().join("tree")), ["one"]);
    guest.script(&format!("{IMAGE}{second}"));
    guest.build(&[]).expect(0, &[]);
    assert_eq!(names(&guest.target().join("tree")), ["two"]);
    assert_eq!(names(&guest.target().join("single")), ["two"]);
    let text = |name: &str| fs::read_to_string(guest.target().join(name)).unwrap();
    assert_eq!(
        (text("both"), text("precious")),
        ("two\n".into(), "mine".into())
    );
    guest.assert_nothing_left();
}

/// The modes of the guest's say who may read it there, not here.
fn modes_of_results_follow_the_umask() {
    let guest = Guest::machine();
    guest.script(&format!(
        "{IMAGE}cd /bundle; mkdir tree tree/inner
         for at in . tree tree/inner; do
             echo x >$at/open; echo x >$at/closed; cp /bin/busybox $at/root
         done
         chmod 0666 open tree/open tree/inner/open image.raw result.log
         chmod 0000 closed tree/closed tree/inner/closed
         chmod 6755 root tree/root tree/inner/root
         chmod 0777 tree/inner; chmod 1777 tree; chmod 0777 ."
    ));
    for (umask, file, folder) in [("022", 0o644, 0o755), ("077", 0o600, 0o700)] {
        guest.build_under(umask, &[]).expect(0, &[]);
        let mode = |name: &str| {
            let metadata = fs::symlink_metadata(guest.target().join(name)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        for name in ["tree", "tree/inner"] {
            assert_eq!(mode(name), folder, "{name} under {umask}: {:o}", mode(name));
        }
        for at in ["", "tree/", "tree/inner/"] {
            for name in ["open", "closed"] {
                let name = format!("{at}{name}");
                assert_eq!(mode(&name), file, "{name} under {umask}: {:o}", mode(&name));
            }
            let program = mode(&format!("{at}root"));
            assert!(
                [file, folder].contains(&program),
                "{program:o} under {umask}"
            );
        }
        for name in ["image.raw", "result.log", "result.code"] {
            assert_eq!(mode(name), file, "{name} under {umask}: {:o}", mode(name));
        }
    }
    guest.assert_nothing_left();
}
