//! What a box has, and a description that needs more.

use serde_json::{Value, json};

use super::user::{Ended, User};

fn write(user: &User, kind: &str, package: &str) {
    let xml = format!(
        "<?xml version=\"1.0\"?>\n<image schemaversion=\"8.3\" name=\"test\">\n\
         <preferences><version>1.0.0</version><packagemanager>apt</packagemanager>\n{kind}\n</preferences>\n\
         <repository type=\"apt-deb\"><source path=\"http://packages.example/debian\"/></repository>\n\
         <packages type=\"image\"><package name=\"{package}\"/></packages>\n</image>\n"
    );
    std::fs::write(user.work().join("image/config.xml"), xml).unwrap();
}

fn inventory(lacks: &str) -> Value {
    json!({
        "with": ["htop"],
        "programs": {"apt-get": true, "dpkg-deb": true, "xorriso": true, lacks: false},
        "modules": {"yaml": true},
        "repository": {
            "path": "/usr/share/boxbuild/packages",
            "packages": ["dracut-kiwi-lib", "kiwi-dracut-lib"],
        },
    })
}

/// A dry run with a box of this record; `None` where there is no engine.
fn dry_run(user: &User, inventory: Option<Value>, options: &[&str]) -> Option<Ended> {
    let mut command = user.with_box("debian:trixie", inventory);
    command.args(["--dry-run", "--box", "plain"]).args(options);
    let words = ["--", "--description", "image", "--target-dir", "target"];
    let ended = Ended::of(command.args(words));
    if ended.code == 3 {
        eprintln!("skipped: dry_run: {}", ended.stderr);
        return None;
    }
    Some(ended)
}

/// Such a build failed half an hour later, for a program.
#[test]
fn a_description_that_needs_more_is_refused_before_the_boot() {
    let user = User::new();
    write(&user, "<type image=\"erofs\"/>", "y");
    let Some(ended) = dry_run(&user, Some(inventory("mkfs.erofs")), &[]) else {
        return;
    };
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    for text in [
        "config.xml:4: image=\"erofs\": kiwi calls mkfs.erofs",
        "boxbuild box create plain --from debian:trixie --force --with erofs-utils --with htop",
    ] {
        assert!(ended.stderr.contains(text), "no '{text}': {}", ended.stderr);
    }
    // A box that has it, and one of an earlier version, which does not say.
    let Some(ended) = dry_run(&user, Some(inventory("mdadm")), &[]) else {
        return;
    };
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!ended.stderr.contains("mkfs.erofs"), "{}", ended.stderr);
    let Some(ended) = dry_run(&user, None, &[]) else {
        return;
    };
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("mkfs.erofs") && ended.stderr.contains("earlier boxbuild"),
        "{}",
        ended.stderr
    );
}

#[test]
fn dracut_modules_of_the_box_are_offered_where_they_are_named() {
    let user = User::new();
    let is_offered = |package: &str, inventory: Option<Value>| {
        write(&user, "<type image=\"tbz\"/>", package);
        let ended = dry_run(&user, inventory, &["--json"])?;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
        let notes = plan["notes"].to_string();
        let words = plan["kiwi_args"].to_string();
        let offered = words.contains("--add-repo\",\"file:///usr/share/boxbuild/packages,apt-deb");
        assert_eq!(offered, notes.contains("dracut modules"), "{notes}");
        Some(offered)
    };
    let all = || Some(inventory("mdadm"));
    let Some(offered) = is_offered("kiwi-dracut-lib", all()) else {
        return;
    };
    assert!(offered);
    assert_eq!(is_offered("dracut-kiwi-lib", all()), Some(true));
    assert_eq!(is_offered("dracut", all()), Some(false));
    assert_eq!(is_offered("dracut-kiwi-lib", None), Some(false));
}

#[test]
fn box_info_shows_what_a_box_has() {
    let user = User::new();
    let mut command = user.with_box("debian:trixie", Some(inventory("ova-compose")));
    let ended = Ended::of(command.args(["box", "info", "plain"]));
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for line in [
        "programs     apt-get dpkg-deb xorriso\n",
        "no programs  ova-compose\n",
        "Python       yaml\n",
        "added        htop\n",
        "for images   dracut-kiwi-lib kiwi-dracut-lib\n",
    ] {
        assert!(ended.stdout.contains(line), "no '{line}': {}", ended.stdout);
    }
    let mut command = user.with_box("debian:trixie", Some(inventory("ova-compose")));
    let ended = Ended::of(command.args(["box", "info", "plain", "--json"]));
    let info: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(info["inventory"]["programs"]["ova-compose"], json!(false));
    let mut command = user.with_box("debian:trixie", None);
    let ended = Ended::of(command.args(["box", "info", "plain", "--json"]));
    let info: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(info.get("inventory"), None);
}

#[test]
fn what_is_no_package_is_refused_at_once() {
    let user = User::new();
    for name in [
        "a,b",
        "x y",
        "Upper",
        "-x",
        "x-",
        "",
        "?essential",
        "a/trixie",
        "a=1",
    ] {
        let option = format!("--with={name}");
        let words = ["box", "create", "x", "--from", "debian:trixie", &option];
        let ended = user.run_words(&words);
        assert_eq!(ended.code, 2, "{name}: {}", ended.stderr);
    }
}

/// A host of Debian has neither mirror nor keys of Ubuntu.
#[test]
fn a_missing_mirror_or_keyring_is_said_before_anything_is_made() {
    let user = User::new();
    let config = "Dir::Etc::sourcelist \"/nowhere\";\nDir::Etc::sourceparts \"/nowhere\";\n";
    std::fs::write(user.work().join("apt.conf"), config).unwrap();
    std::fs::write(user.work().join("keys.gpg"), "").unwrap();
    let run = |options: &[&str]| {
        let mut command = user.command(super::user::boxbuild());
        command
            .env("APT_CONFIG", user.work().join("apt.conf"))
            .env("KIWI_BOXED_CACHE_DIR", user.work().join("store"))
            .args(["box", "create", "x", "--from", "ubuntu:noble"]);
        Ended::of(command.args(options))
    };
    let ended = run(&["--keyring", "missing.gpg", "--mirror", "http://a.example"]);
    assert!(ended.stderr.contains("missing.gpg"), "{}", ended.stderr);
    let ended = run(&["--keyring", "keys.gpg"]);
    if ended.code == 3 {
        eprintln!(
            "skipped: a_missing_mirror_or_keyring_is_said_before_anything_is_made: {}",
            ended.stderr
        );
        return;
    }
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("no mirror of Ubuntu") && ended.stderr.contains("--mirror URL"),
        "{}",
        ended.stderr
    );
    assert!(!user.work().join("store").exists());
}
