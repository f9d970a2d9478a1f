//! What systems that run jobs get of a batch: a matrix, a report, annotations.

use std::fs;

use serde_json::{Value, json};

use crate::user::{Ended, User, boxbuild};

const BATCH: &str = "[defaults]\nbox = 'debian'\ntarget-dir = 'out/{name}'\n\
    [matrix]\ndescription = ['images/server', 'images/mini']\nprofile = ['', ['A', 'B']]\narch = 'aarch64'\n\
    [[build]]\nname = 'installer'\ndescription = 'images/installer'\ntype = 'iso'\n";

/// Neither the descriptions nor the box are there.
#[test]
fn a_matrix_needs_nothing_but_the_file() {
    let user = User::new();
    fs::write(user.work().join("b.toml"), BATCH).unwrap();
    let ended = user.run("batch b.toml --matrix github");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // A line, so that it fits NAME=VALUE.
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    let matrix: Value = serde_json::from_str(&ended.stdout).unwrap();
    let jobs = matrix["include"].as_array().unwrap();
    assert_eq!(jobs.len(), 5);
    assert_eq!(
        jobs[1],
        json!({"name": "server-A+B", "description": "images/server", "profile": "A+B", "type": "",
            "box": "debian", "arch": "aarch64"})
    );
    assert_eq!(jobs[4]["type"], "iso");
    let ended = user.run("batch b.toml --matrix github --only installer");
    assert_eq!(ended.stdout.matches("\"name\"").count(), 1);
    // Nothing was made.
    assert_eq!(fs::read_dir(user.work()).unwrap().count(), 2);
}

#[test]
fn a_matrix_of_a_wrong_file_or_of_too_many_builds_is_refused() {
    let user = User::new();
    let refused = |text: &str, options: &str, words: &str| {
        fs::write(user.work().join("b.toml"), text).unwrap();
        let ended = user.run(&format!("batch b.toml --matrix github {options}"));
        assert_eq!(ended.code, 2, "{text}");
        assert!(ended.stdout.is_empty(), "{}", ended.stdout);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    };
    refused(&BATCH.replace("type =", "typ ="), "", "b.toml:11: ");
    refused(BATCH, "--only none", "--only none: there is no such build");
    refused(BATCH, "--junit x", "cannot be used with");
    let mut many = String::from("[defaults]\nbox = 'b'\ntarget-dir = 'out/{name}'\n");
    for number in 0..257 {
        many += &format!("[[build]]\nname = 'b{number}'\ndescription = 'd'\n");
    }
    refused(&many, "", "257 builds, but GitHub takes at most 256");
}

#[test]
fn a_report_without_a_place_is_refused_before_anything_starts() {
    let user = User::new();
    fs::write(user.work().join("b.toml"), BATCH).unwrap();
    for (file, why) in [
        ("none/x.xml", "cannot open the folder"),
        ("image", "a folder: name a file"),
    ] {
        let ended = user.run(&format!("batch b.toml --dry-run --junit {file}"));
        assert_eq!(ended.code, 2);
        let words = format!("--junit {file}: {why}");
        assert!(ended.stderr.contains(&words), "{}", ended.stderr);
    }
}

fn on_github(user: &User, words: &[&str], summary: &std::path::Path) -> Ended {
    let mut command = user.command(boxbuild());
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", user.work())
        .env("GITHUB_STEP_SUMMARY", summary);
    Ended::of(command.args(words))
}

#[test]
fn what_is_refused_is_annotated_on_github_only() {
    let user = User::new();
    let summary = user.work().join("summary");
    // Its folder becomes the current one.
    fs::create_dir(user.work().join("sub")).unwrap();
    fs::write(
        user.work().join("sub/b.toml"),
        BATCH.replace("type =", "typ ="),
    )
    .unwrap();
    let annotations = |ended: &Ended| -> Vec<String> {
        let lines = ended.stderr.lines().chain(ended.stdout.lines());
        lines
            .filter(|line| line.starts_with("::"))
            .map(str::to_owned)
            .collect()
    };
    let ended = on_github(&user, &["batch", "sub/b.toml"], &summary);
    let found = annotations(&ended);
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("::error title=batch file,file=sub/b.toml,line=11::")),
        "{found:?}"
    );
    for words in [
        &["batch", "sub/b.toml", "--json"][..],
        &["batch", "sub/b.toml", "--json", "--dry-run"],
    ] {
        assert_eq!(
            annotations(&on_github(&user, words, &summary)),
            [] as [&str; 0]
        );
    }
    assert_eq!(annotations(&user.run("batch sub/b.toml")), [] as [&str; 0]);
    // A single build, and a description.
    let ended = on_github(
        &user,
        &[
            "--box",
            "none",
            "--",
            "--description",
            "no",
            "--target-dir",
            "o",
        ],
        &summary,
    );
    assert!(
        annotations(&ended)[0].starts_with("::error title=boxbuild::"),
        "{}",
        ended.stderr
    );
    fs::write(user.work().join("image/config.xml"), "<image>\n<b").unwrap();
    let ended = on_github(&user, &["check", "image"], &summary);
    let found = annotations(&ended);
    assert!(
        found[0].starts_with("::error title=boxbuild check,file=image/config.xml,line="),
        "{found:?}"
    );
}
