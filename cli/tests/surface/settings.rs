//! Settings: files and variables, as a user and as a hostile clone has them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::user::{Ended, User, boxbuild};

impl User {
    /// Writes the user's own settings.
    fn own_settings(&self, text: &str) -> PathBuf {
        let folder = self.home().join(".config");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("boxbuild.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes the settings of the project in the working folder.
    fn project_settings(&self, text: &str) -> PathBuf {
        let path = self.work().join("boxbuild.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn run_with(&self, variables: &[(&str, &str)], line: &str) -> Ended {
        let mut command = self.command(boxbuild());
        command.envs(variables.iter().copied());
        Ended::of(command.args(line.split_whitespace()))
    }

    /// What `boxbuild config --json` has of a key: its value, and where that comes from.
    fn setting(&self, variables: &[(&str, &str)], key: &str) -> (Value, String) {
        let ended = self.run_with(variables, "config --json --all");
        assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        let rows = document["settings"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["key"] == key)
            .unwrap_or_else(|| panic!("{key}: {document}"));
        let from = row["from"].as_str().unwrap_or("").to_owned();
        (row["value"].clone(), from)
    }
}

#[test]
fn each_place_counts_before_the_next() {
    let user = User::new();
    let of = |value: &str, from: &str| (Value::from(value), from.to_owned());
    assert_eq!(user.setting(&[], "network"), of("user", "built-in"));
    user.own_settings("network = 'public'\n");
    assert_eq!(user.setting(&[], "network"), of("public", "user"));
    user.project_settings("network = 'none'\n");
    assert_eq!(user.setting(&[], "network"), of("none", "project"));
    let variables = [("BOXBUILD_NETWORK", "user")];
    assert_eq!(
        user.setting(&variables, "network"),
        of("user", "environment")
    );
}

/// A wrong value shows which one was taken: nothing of a build is needed.
#[test]
fn a_build_takes_its_settings_and_names_them() {
    let user = User::new();
    let own = user.own_settings("box = 'nonesuch'\n");
    let line = "-- --description image --target-dir out";
    let ended = user.run(line);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("nonesuch"), "{}", ended.stderr);
    let ended = user.run_with(&[("BOXBUILD_BOX", "another")], line);
    assert!(ended.stderr.contains("another"), "{}", ended.stderr);
    let ended = user.run_with(
        &[("BOXBUILD_BOX", "another")],
        &format!("--box typed {line}"),
    );
    assert!(ended.stderr.contains("typed"), "{}", ended.stderr);
    // An option that was not typed is told with its place.
    fs::write(&own, "box = 'nonesuch'\nrequire-confinement = true\n").unwrap();
    let ended = user.run(&format!("--container {line}"));
    let place = format!("--require-confinement comes from {}:2", own.display());
    assert!(ended.stderr.contains(&place), "{}", ended.stderr);
    let ended = user.run(&format!("--json --container {line}"));
    assert!(ended.stdout.contains(&place), "{}", ended.stdout);
}

#[test]
fn no_file_is_read_if_none_shall_be() {
    let user = User::new();
    user.own_settings("box = 'nonesuch'\nno-such-key = 1\n");
    user.project_settings("shared-path = '/'\n");
    let line = "--box typed -- --description image --target-dir out";
    for (variables, line) in [
        (vec![], format!("--no-config {line}")),
        (vec![("BOXBUILD_NO_CONFIG", "1")], line.to_owned()),
        // Behind a word that only looks like the separator.
        (vec![], format!("--profile kiwi --no-config {line}")),
        (vec![], String::from("box list --no-config")),
        (vec![], String::from("--no-config box list")),
        (vec![], String::from("config --no-config")),
    ] {
        let ended = user.run_with(&variables, &line);
        assert!(
            !ended.stderr.contains("boxbuild.toml"),
            "{line}: {}",
            ended.stderr
        );
        let expected = if line.contains("typed") { 2 } else { 0 };
        assert_eq!(ended.code, expected, "{line}: {}", ended.stderr);
    }
}

#[test]
fn every_mistake_in_a_file_is_told_with_its_line() {
    let user = User::new();
    let path =
        user.own_settings("memory = '4G'\nengine = 'xen'\n\n[build-args]\nadd-pakage = 'x'\n");
    for line in [
        "box list",
        "config",
        "--box b -- --description image --target-dir out",
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}: {}", ended.stderr);
        for (number, words) in [(1, "'box-memory'"), (2, "xen"), (5, "'add-package'")] {
            let place = format!("{}:{number}: ", path.display());
            let told = ended.stderr.lines().find(|text| text.contains(&place));
            assert!(
                told.is_some_and(|told| told.contains(words)),
                "{line}: {}",
                ended.stderr
            );
        }
    }
    let ended = user.run("box list --json");
    let error: Value = serde_json::from_str(ended.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(error["event"], "error");
    // The help and the completion of words do not need them.
    for line in [
        "--help",
        "help settings",
        "box create --help",
        "--version",
        "completions bash",
    ] {
        assert_eq!(user.run(line).code, 0, "{line}");
    }
    let ended = user.run_with(&[("BOXBUILD_OFFLINE", "perhaps")], "box list --no-config");
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("BOXBUILD_OFFLINE: "),
        "{}",
        ended.stderr
    );
}

/// A file that came with a clone.
#[test]
fn a_hostile_project_gets_nothing_of_the_host() {
    for line in [
        "shared-path = '/home'",
        "signed-by = '/tmp/evil.asc'",
        "config = '/etc/shadow'",
        "logfile = '/etc/cron.d/x'",
        "logsocket = '/run/x'",
        "container = true",
        "nested = true",
        "no-snapshot = true",
        "description-rw = true",
        "ssh-port = 2222",
        "machine = 'q35,firmware=/etc/shadow'",
        "offline = false",
        "setenv = ['http_proxy=http://127.0.0.1:5432']",
        "kiwi-file = '../../../etc/shadow'",
        "runner = { kind = 'command', prefix = ['sh', '-c', 'touch pwned'] }",
        "box-create.mirror = 'http://evil.example/'",
        "batch.log-dir = '/home'",
        "build-args.signing-key = '/etc/shadow'",
        "build-args.add-repo = 'dir:///home'",
        "build-args.add-repo = 'http://127.0.0.1:5432/'",
        "build-args.add-package = '/etc/shadow'",
    ] {
        let user = User::new();
        let path = user.project_settings(line);
        for command in [
            "--box b -- --description image --target-dir out",
            "box list",
            "batch x",
        ] {
            let ended = user.run(command);
            assert_eq!(ended.code, 2, "{line}: {}", ended.stderr);
            let place = format!("{}:1: ", path.display());
            assert!(ended.stderr.contains(&place), "{line}: {}", ended.stderr);
            assert!(
                ended.stderr.contains("--no-config"),
                "{line}: {}",
                ended.stderr
            );
        }
        // The same is the user's to say.
        fs::remove_file(&path).unwrap();
        user.own_settings(line);
        let ended = user.run("config");
        assert_eq!(ended.code, 0, "{line}: {}", ended.stderr);
    }
}

#[test]
fn a_link_or_an_endless_file_is_no_settings_file() {
    let user = User::new();
    let path = user.work().join("boxbuild.toml");
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let ended = user.run("box list");
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("not a regular file"),
        "{}",
        ended.stderr
    );
    fs::remove_file(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let ended = user.run("box list");
    assert!(
        ended.stderr.contains("more than 1024 KiB"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_file_that_everybody_can_write_is_not_the_users() {
    let user = User::new();
    let path = user.own_settings("box = 'debian'\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let ended = user.run("box list");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("chmod o-w"), "{}", ended.stderr);
}

/// In /tmp, anybody can put a file beside somebody's work.
#[test]
fn a_strangers_file_in_a_shared_folder_is_not_read() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "skipped: a_strangers_file_in_a_shared_folder_is_not_read: needs root for a file of another user"
        );
        return;
    }
    let user = User::new();
    let path = user.project_settings("shared-path = '/'\n");
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    let ended = user.run("box list");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("is not read"), "{}", ended.stderr);
    // A clone as a whole may be another user's, as in a container of CI.
    std::os::unix::fs::chown(user.work(), Some(12345), None).unwrap();
    assert_eq!(user.run("box list").code, 2);
}

#[test]
fn a_batch_takes_settings_for_its_builds_and_none_of_one_run() {
    let user = User::new();
    user.own_settings("require-confinement = true\n");
    let file = "[[build]]\nbox = 'b'\ndescription = 'image'\ntarget-dir = 'out'\n\
                options.container = true\n";
    fs::write(user.work().join("builds.toml"), file).unwrap();
    let ended = user.run_with(&[("BOXBUILD_BOX_MEMORY", "lots")], "batch builds.toml");
    assert!(
        ended.stderr.contains("BOXBUILD_BOX_MEMORY: "),
        "{}",
        ended.stderr
    );
    let ended = user.run("batch builds.toml");
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    let place = "--require-confinement comes from ";
    assert!(ended.stderr.contains(place), "{}", ended.stderr);
}

#[test]
fn config_shows_each_value_and_its_place() {
    let user = User::new();
    let own =
        user.own_settings("box = 'debian'\n[build-args]\nadd-repo = 'https://me:s3cret@host/x'\n");
    let project = user.project_settings("box-memory = '6G'\nbox = 'leap'\n");
    let ended = user.run_with(&[("BOXBUILD_TIMEOUT", "2h")], "config");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let line = |key: &str| {
        let mut lines = ended.stdout.lines();
        let line = lines.find(|line| line.split_whitespace().next() == Some(key));
        line.unwrap_or_else(|| panic!("{key}: {}", ended.stdout))
            .to_owned()
    };
    assert!(line("box").contains("leap"));
    assert!(line("box").contains(&format!(
        "{}:2, before {}:1",
        project.display(),
        own.display()
    )));
    assert!(line("box-memory").contains(&format!("{}:1", project.display())));
    assert!(line("timeout").ends_with("BOXBUILD_TIMEOUT"));
    assert!(line("engine").ends_with("built-in"));
    assert!(line("build-args.add-repo").contains("https://***@host/x"));
    assert!(!ended.stdout.contains("s3cret"));
    let ended = user.run("config --files");
    assert!(
        ended
            .stdout
            .contains(&format!("user     {}\n", own.display())),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains(&format!("project  {}\n", project.display())),
        "{}",
        ended.stdout
    );
    let ended = user.run("config --all");
    assert!(
        ended.stdout.contains("BOXBUILD_BOX_CREATE__MIRROR"),
        "{}",
        ended.stdout
    );
}

/// The page lists what a project may say, and is held to the program.
#[test]
fn config_json_is_on_the_page() {
    let user = User::new();
    user.own_settings("box = 'debian'\n");
    user.project_settings("box = 'leap'\n");
    let ended = user.run("config --json");
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let page = include_str!("../../../docs/json.md");
    for key in ["files", "settings", "notes"] {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
    let row = document["settings"].as_array().unwrap();
    for key in row.iter().flat_map(|row| row.as_object().unwrap().keys()) {
        assert!(page.contains(&format!("`{key}`")), "{key}");
    }
}
