//! `sitecustomize.py` in a real Python: kiwi gets the same output without polling, and other programs
//! are not affected.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use boxinit::kiwi_patch::{FILE, PROGRAM, VARIABLE, search_path};

const KIWI_LIKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kiwi_patch/kiwi_like.py");

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!(
            "boxbuild-test-kiwi-patch-{name}-{}",
            std::process::id()
        ));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("python")).expect("a folder can be made");
        fs::write(path.join("python").join(FILE), PROGRAM).expect("a file can be written");
        Folder(path)
    }

    fn python(&self) -> PathBuf {
        self.0.join("python")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether Python is installed. Reports `test` as skipped if it is not.
fn has_python(test: &str) -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        let _ = writeln!(std::io::stderr(), "skipped: {test}: no python3");
    }
    found
}

/// Runs Python on `args` with the search path `path`. Returns its standard output.
fn run(path: Option<&OsStr>, args: &[&OsStr]) -> String {
    let mut command = Command::new("python3");
    command
        .env_remove(VARIABLE)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(path) = path {
        command.env(VARIABLE, path);
    }
    let output = command.args(args).output().expect("python3 starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a script in `tests/kiwi_patch` on the patch and `args`; `plain`: it does not apply the patch.
fn with_patch(script: &str, folder: &Folder, plain: bool, args: &[PathBuf]) -> Output {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kiwi_patch");
    let mut command = Command::new("python3");
    if plain {
        command.env("PLAIN", "1");
    }
    command
        .arg(scripts.join(script))
        .arg(folder.python().join(FILE));
    command.args(args).output().expect("Python runs")
}

fn kiwi_like(path: Option<&OsStr>, folder: &Path, args: &[&str]) -> serde_json::Value {
    let mut all: Vec<&OsStr> = vec![KIWI_LIKE.as_ref(), folder.as_os_str()];
    all.extend(args.iter().map(AsRef::<OsStr>::as_ref));
    serde_json::from_str(&run(path, &all)).expect("JSON")
}

#[test]
fn kiwi_gets_the_same_output_without_polling() {
    if !has_python("kiwi_gets_the_same_output_without_polling") {
        return;
    }
    let folder = Folder::new("same");
    let plain = kiwi_like(None, &folder.0.join("plain"), &[]);
    let path = search_path(folder.python().to_str().expect("text"), None);
    let patched = kiwi_like(Some(&path), &folder.0.join("patched"), &[]);
    assert_eq!(plain["patched"], false);
    assert_eq!(patched["patched"], true);
    assert_eq!(plain["results"], patched["results"]);
    assert_eq!(plain["results"][0][0].as_array().map(Vec::len), Some(9999));
    assert_eq!(plain["results"][1][2], 3);
    assert!(plain["polls"].as_u64() > Some(10_000), "{}", plain["polls"]);
    assert_eq!(patched["polls"], 0);
}

/// As in containers and in boxes of other architectures.
#[test]
fn the_program_that_runs_kiwi_can_apply_it() {
    if !has_python("the_program_that_runs_kiwi_can_apply_it") {
        return;
    }
    let folder = Folder::new("applied");
    let nosync = folder.python().join("nosync");
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../guest/nosync"),
        &nosync,
    )
    .expect("a file can be copied");
    let work = folder.0.join("work");
    let args = [
        "-E".as_ref(),
        nosync.as_os_str(),
        KIWI_LIKE.as_ref(),
        work.as_os_str(),
    ];
    let output: serde_json::Value = serde_json::from_str(&run(None, &args)).expect("JSON");
    assert_eq!(output["patched"], true);
    assert_eq!(output["polls"], 0);
    assert_eq!(output["results"][0][0].as_array().map(Vec::len), Some(9999));
}

#[test]
fn other_programs_are_not_affected() {
    if !has_python("other_programs_are_not_affected") {
        return;
    }
    let folder = Folder::new("others");
    let other = folder.0.join("other");
    fs::create_dir_all(&other).expect("a folder can be made");
    fs::write(other.join(FILE), "print(\"the box's own\")\n").expect("a file can be written");
    let path = search_path(
        folder.python().to_str().expect("text"),
        Some(other.as_os_str()),
    );
    let script = "import os, sys; print(os.environ['PYTHONPATH']); \
                  print([p for p in sys.path if p.endswith('/python')])";
    let output = run(Some(&path), &["-c".as_ref(), script.as_ref()]);
    let expected = format!("the box's own\n{}\n[]\n", other.display());
    assert_eq!(output, expected);

    let alone = search_path(folder.python().to_str().expect("text"), None);
    let output = kiwi_like(Some(&alone), &folder.0.join("work"), &[]);
    assert_eq!(output["path"], serde_json::Value::Null);
    assert_eq!(output["child"], "False");
}

#[test]
fn an_unknown_kiwi_is_not_patched() {
    if !has_python("an_unknown_kiwi_is_not_patched") {
        return;
    }
    let folder = Folder::new("other");
    let path = search_path(folder.python().to_str().expect("text"), None);
    let output = kiwi_like(Some(&path), &folder.0.join("work"), &["something_else"]);
    assert_eq!(output["patched"], false);
}

/// kiwi had rsync replace the image's link `lib` by the overlay's folder.
#[test]
fn an_overlay_keeps_the_links_of_the_image() {
    if !has_python("an_overlay_keeps_the_links_of_the_image") {
        return;
    }
    let folder = Folder::new("overlay");
    let (overlay, image) = (folder.0.join("overlay/"), folder.0.join("image"));
    for path in [
        "overlay/lib/a",
        "overlay/lib/abs/b",
        "overlay/var/r[un",
        "overlay/dead",
        "image/usr/lib",
        "image/var/tmp",
        "image/r",
    ] {
        fs::create_dir_all(folder.0.join(path)).expect("a folder can be made");
    }
    for (link, target) in [
        ("lib", "usr/lib"),
        ("usr/lib/abs", "/var/tmp"),
        ("var/r[un", "/r"),
        ("dead", "/none"),
    ] {
        std::os::unix::fs::symlink(target, image.join(link)).expect("a link can be made");
    }
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kiwi_patch/overlay_like.py"
    );
    let path = search_path(&folder.python().to_string_lossy(), None);
    let args = [OsStr::new(script), overlay.as_os_str(), image.as_os_str()];
    let calls: Vec<(PathBuf, PathBuf, Vec<String>)> =
        serde_json::from_str(&run(Some(&path), &args)).expect("JSON");
    let at = |name: &str| overlay.join(name).join("");
    // Without the patch: one call, for all of it.
    let options = |excluded: &[&str]| {
        let mut options = vec![String::from("-r"), String::from("--links")];
        options.extend(excluded.iter().map(|name| format!("--exclude=/{name}/")));
        options
    };
    let (first, rest) = calls.split_first().expect("a call");
    assert_eq!((&first.0, &first.1), (&overlay, &image));
    let mut own = first.2.clone();
    own[2..].sort();
    assert_eq!(own, options(&["lib", "var/r\\[un"]));
    let mut rest: Vec<_> = rest.to_vec();
    rest.sort();
    assert_eq!(
        rest,
        [
            (at("lib"), image.join("usr/lib"), options(&["abs"])),
            (at("lib/abs"), image.join("var/tmp"), options(&[])),
            (at("var/r[un"), image.join("r"), options(&[])),
        ]
    );
}

/// Archives of two builds differed in when tar had read each file.
#[test]
fn archives_of_a_reproducible_build_leave_out_what_differs() {
    if !has_python("archives_of_a_reproducible_build_leave_out_what_differs") {
        return;
    }
    let folder = Folder::new("archive");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kiwi_patch/archive_like.py"
    );
    let path = search_path(&folder.python().to_string_lossy(), None);
    let options = |tar: &str| -> Vec<Vec<String>> {
        let output = Command::new("python3")
            .arg(script)
            .env(VARIABLE, &path)
            .env("TAR_OPTIONS", tar)
            .output()
            .expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let [with, without] = &options("--sort=name --mtime=@7 --clamp-mtime")[..] else {
        panic!("two archives");
    };
    assert!(
        with.last()
            .is_some_and(|option| option.contains("delete=atime,delete=ctime"))
    );
    // tar refuses the option in other formats.
    assert!(without.is_empty());
    assert_eq!(options("")[0].len(), 2);
}

/// A root on squashfs was called by an identifier that the disk lost when kiwi gave it another.
#[test]
fn the_partitions_of_a_disk_are_called_what_the_image_is_told() {
    if !has_python("the_partitions_of_a_disk_are_called_what_the_image_is_told") {
        return;
    }
    let folder = Folder::new("disk");
    let names = |plain: bool| -> Vec<String> {
        let output = with_patch("disk_like.py", &folder, plain, &[folder.0.join("disk")]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(names(true), ["125a42d0-02", "125a42d0-02", "1d461992-02"]);
    assert_eq!(names(false), ["1d461992-02"; 3]);
}

/// What a kernel's package and dracut's do to an image, and which hooks that took, in their order.
fn initial_ramdisks(name: &str, plain: bool, kernels: &[&str], dracut: &str) -> (bool, String) {
    let folder = Folder::new(name);
    let root = folder.0.join("root");
    let hooks = root.join("etc/kernel/postinst.d");
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::create_dir_all(&hooks).unwrap();
    for (name, text) in [
        ("apt-auto-removal", "echo apt $1"),
        ("dracut", dracut),
        (
            "zz-update-grub",
            "echo grub $1 $(ls $(dirname $0)/../../../boot | grep -c img)",
        ),
    ] {
        let path = hooks.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut args = vec![root];
    args.extend(kernels.iter().map(PathBuf::from));
    let output = with_patch("apt_like.py", &folder, plain, &args);
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.success(), said.replace('\n', ", "))
}

/// As /etc/kernel/postinst.d/dracut of Debian 12 and 13.
const DRACUT: &str = "[ \"$INITRD\" = No ] && exit 0
echo dracut $1
touch $(dirname $0)/../../../boot/initrd.img-$1";

#[test]
fn an_initial_ramdisk_is_made_once() {
    if !has_python("an_initial_ramdisk_is_made_once") {
        return;
    }
    let (good, said) = initial_ramdisks("initrd-plain", true, &["6.12"], DRACUT);
    assert!(good);
    assert_eq!(said, "apt 6.12, dracut 6.12, grub 6.12 1, dracut 6.12, ");
    // The loader's hook is called again, and finds the ramdisk.
    let (good, said) = initial_ramdisks("initrd-once", false, &["6.12"], DRACUT);
    assert!(good);
    assert_eq!(said, "apt 6.12, grub 6.12 0, dracut 6.12, grub 6.12 1, ");
}

/// What is in the image then may depend on what came with them.
#[test]
fn later_transactions_make_their_initial_ramdisks_themselves() {
    if !has_python("later_transactions_make_their_initial_ramdisks_themselves") {
        return;
    }
    let kernels = ["6.12", "7.1"];
    let (good, said) = initial_ramdisks("initrd-later", false, &kernels, DRACUT);
    assert!(good);
    let first = "apt 6.12, grub 6.12 0, dracut 6.12, grub 6.12 1, ";
    let second = "apt 7.1, dracut 7.1, grub 7.1 2, dracut 6.12, dracut 7.1, ";
    assert_eq!(said, format!("{first}{second}"));
}

#[test]
fn an_initial_ramdisk_that_cannot_be_made_fails_the_transaction() {
    if !has_python("an_initial_ramdisk_that_cannot_be_made_fails_the_transaction") {
        return;
    }
    let broken = "[ \"$INITRD\" = No ] && exit 0\nexit 1";
    assert!(!initial_ramdisks("initrd-broken", false, &["6.12"], broken).0);
}

/// `--set-type-attr overlayroot=false` gave the image an overlay, and a size ended the build.
#[test]
fn an_attribute_of_the_command_line_means_what_it_does_in_a_description() {
    if !has_python("an_attribute_of_the_command_line_means_what_it_does_in_a_description") {
        return;
    }
    let folder = Folder::new("type");
    let values = |plain: bool| -> serde_json::Value {
        let output = with_patch("type_like.py", &folder, plain, &[]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(
        values(true),
        serde_json::json!(["false", "1", "64", "ext4", "", true, null, "7", "taken"])
    );
    assert_eq!(
        values(false),
        serde_json::json!([
            false,
            true,
            64,
            "ext4",
            "",
            true,
            null,
            "7",
            "Bad boolean attribute (element type with overlayroot/line 0)"
        ])
    );
}

/// A medium with `mediacheck` could not be built: the box's own settings were of the form before kiwi 11, and those
/// of a description took their place.
#[test]
fn settings_of_newer_and_older_form_are_read() {
    if !has_python("settings_of_newer_and_older_form_are_read") {
        return;
    }
    let folder = Folder::new("settings");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kiwi_patch/settings_like.py"
    );
    let patch = folder.python().join(FILE);
    let mut found: Vec<serde_json::Value> =
        serde_json::from_str(&run(None, &[script.as_ref(), patch.as_os_str()])).expect("JSON");
    assert_eq!(
        found.remove(0),
        serde_json::json!([null, "isomd5sum", null])
    );
    let lists = serde_json::json!(["isomd5sum", "-1", null, null]);
    let mappings = serde_json::json!(["isomd5sum", null, false, null]);
    assert_eq!(found[0], lists);
    assert_eq!(found[1][0], "TypeError");
    assert_eq!(found[2][0], "AttributeError");
    assert_eq!(found[2][4], "refused");
    assert_eq!(found[4..6], [lists.clone(), mappings.clone()]);
    for (own, both) in [(&found[6], &lists), (&found[7], &mappings)] {
        assert_eq!(
            own.as_array().map(|own| &own[..4]),
            both.as_array().map(|own| &own[..])
        );
        assert_eq!(own[4], serde_json::json!({"options": "-1"}));
    }
}

/// kiwi wanted jing for that, and with it Java; without it, its log had everything in one line, of another file.
#[test]
fn a_schema_error_is_told_with_its_line() {
    if !has_python("a_schema_error_is_told_with_its_line") {
        return;
    }
    let folder = Folder::new("description");
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kiwi_patch/description_like.py"
    );
    let said = |path: &OsStr| -> Vec<String> {
        let mut command = Command::new("/usr/bin/env");
        let output = command
            .args(["python3", script])
            .arg(folder.python().join(FILE))
            .env("PATH", path)
            .output();
        let output = output.expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    // Python alone is in the search path.
    let found = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .expect("Python runs");
    let python = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    let programs = folder.0.join("bin");
    fs::create_dir(&programs).expect("a folder can be made");
    std::os::unix::fs::symlink(python, programs.join("python3")).expect("a link can be made");
    assert_eq!(
        said(programs.as_os_str()),
        [
            "/description/config.xml:7: bad 0",
            "/description/config.xml: bad 1",
            "/description/config.xml: bad 2",
            "jing /k/own.rng /var/tmp/extension"
        ]
    );
    let jing = programs.join("jing");
    fs::write(&jing, "#!/bin/sh\n").expect("a file can be written");
    fs::set_permissions(&jing, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    assert_eq!(said(programs.as_os_str()).len(), 2);
}

/// Once, before images.sh, with the disk frozen from before the question until after the answer. No child
/// learns of the descriptor.
#[test]
fn a_checkpoint_is_taken_between_the_halves_of_a_build() {
    if !has_python("a_checkpoint_is_taken_between_the_halves_of_a_build") {
        return;
    }
    const PROGRAM: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kiwi_patch/checkpoint.py"
    );
    for answer in ["kept", "refused", "none"] {
        let folder = Folder::new(&format!("checkpoint-{answer}"));
        let patch = folder.python().join(FILE);
        let work = folder.0.join("work");
        let args: [&OsStr; 4] = [
            PROGRAM.as_ref(),
            patch.as_os_str(),
            work.as_os_str(),
            answer.as_ref(),
        ];
        let happened: serde_json::Value = serde_json::from_str(&run(None, &args)).expect("JSON");
        let expected = match answer {
            "none" => serde_json::json!([false, "images.sh", "images.sh"]),
            _ => serde_json::json!([
                false,
                "freeze",
                "boxbuild 1 checkpoint wanted\n",
                "thaw",
                "images.sh",
                "images.sh"
            ]),
        };
        assert_eq!(happened, expected, "{answer}");
    }
}
