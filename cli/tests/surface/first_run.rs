//! The first minutes, with an empty store.

use crate::user::{Ended, User, boxbuild};

/// Case E7.
#[test]
fn a_build_on_an_empty_store_says_how_to_make_the_box() {
    let user = User::new();
    for (name, words) in [
        ("debian", "boxbuild box create debian --from debian:trixie"),
        (
            "bookworm",
            "boxbuild box create bookworm --from debian:bookworm",
        ),
        ("mine", "'boxbuild box create'"),
    ] {
        let line = format!("--box {name} -- --description image --target-dir out");
        for line in [line.clone(), format!("--dry-run {line}")] {
            let ended = user.run(&line);
            assert_eq!(ended.code, 2, "{line}: {}", ended.stderr);
            assert!(ended.stderr.contains(words), "{line}: {}", ended.stderr);
        }
    }
    assert!(!user.work().join("out").exists());
}

/// Case E6.
#[test]
fn the_doctor_says_that_a_box_is_missing() {
    let user = User::new();
    let ended = user.run("doctor");
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    assert!(
        ended.stdout.contains("This host cannot build yet"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("boxbuild box create debian"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("ssl-cert"), "{}", ended.stdout);
    let ended = user.run("doctor --json");
    let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found["can_build"], false);
    let findings = found["findings"].as_array().unwrap();
    for finding in findings.iter().filter(|finding| finding["good"] == false) {
        let advice = finding["advice"].as_str().unwrap();
        assert!(!advice.is_empty(), "{finding}");
    }
}

/// The doctor said that this host can build; a build's guest waited for ever.
#[test]
fn a_low_limit_of_open_files_is_told_before_anything_is_started() {
    let user = User::new();
    let limited = |words: &str| {
        let script = format!("ulimit -n 48; exec \"$0\" {words}");
        let mut shell = user.command("sh".as_ref());
        Ended::of(shell.args(["-c", &script]).arg(boxbuild()))
    };
    let ended = limited("--box leap -- --description image --target-dir out");
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("allows 48 open files"),
        "{}",
        ended.stderr
    );
    assert!(!user.work().join("out").exists());
    let ended = limited("doctor");
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    assert!(ended.stdout.contains("ulimit -Hn"), "{}", ended.stdout);
}
