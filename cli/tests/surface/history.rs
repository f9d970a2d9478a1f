//! The history of builds: `builds`, `logs`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use crate::user::{User, boxbuild};

/// A build that the history has.
fn record(id: u64, more: &Value) -> Value {
    let mut record = json!({
        "format": 1, "id": id, "version": "0.2.0", "host": "h", "started": 1_780_000_000 + id,
        "description": "/srv/a", "target_dir": "/srv/out", "box": "debian", "arch": "x86_64",
        "box_sha256": "ab", "kiwi": "11.1.6", "engine": "kvm", "boot": "fast", "memory_mib": 4096,
        "cpus": 4, "args": ["--profile", "A"],
    });
    for (key, value) in more.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

fn end(status: &str, code: u8) -> Value {
    json!({ "status": status, "exit_code": code, "seconds": 12.5,
        "message": if code == 0 { Value::Null } else { "it went wrong\u{1b}[2J".into() },
        "files": [{ "path": "/srv/out/x.raw", "bytes": 5 << 20, "sha256": "0123456789abcdef" }],
        "bytes": 5 << 20 })
}

impl User {
    fn history(&self) -> PathBuf {
        let folder = self.home().join(".local/state/boxbuild/history");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn has_built(&self, id: u64, more: &Value) {
        let text = serde_json::to_vec(&record(id, more)).unwrap();
        fs::write(self.history().join(format!("{id}.json")), text).unwrap();
    }

    /// The lock that a build holds while it runs.
    fn runs(&self, id: u64) -> Flock<File> {
        let mut options = File::options();
        let options = options.create(true).append(true).mode(0o600);
        let file = options
            .open(self.history().join(format!("{id}.live")))
            .unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap()
    }

    fn listed(&self, line: &str) -> Vec<Value> {
        let ended = self.run(line);
        assert_eq!(ended.code, 0, "{line}: {}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

#[test]
fn all_builds_are_listed_with_how_they_ended() {
    let user = User::new();
    user.has_built(1, &json!({ "end": end("built", 0) }));
    user.has_built(
        2,
        &json!({ "end": end("failed", 1), "description": user.work().join("image") }),
    );
    user.has_built(3, &json!({ "box": "leap" }));
    user.has_built(4, &json!({}));
    user.has_built(5, &json!({ "format": 9, "version": "9.0" }));
    let _lock = user.runs(4);
    let states = |line: &str| -> Vec<(u64, String)> {
        let rows = user.listed(line);
        let row = |row: &Value| {
            let id = row["id"].as_str().unwrap().parse().unwrap();
            (id, row["state"].as_str().unwrap().to_owned())
        };
        rows.iter().map(row).collect()
    };
    let of = |list: &[(u64, &str)]| -> Vec<(u64, String)> {
        list.iter()
            .map(|(id, state)| (*id, (*state).to_owned()))
            .collect()
    };
    let all = [
        (1, "built"),
        (2, "failed"),
        (3, "killed"),
        (4, "running"),
        (5, "unknown"),
    ];
    assert_eq!(states("builds --json"), of(&all));
    assert_eq!(states("builds --json --failed"), of(&all[1..3]));
    assert_eq!(states("builds --json --running"), of(&all[3..4]));
    assert_eq!(states("builds --json --last 2"), of(&all[3..]));
    assert_eq!(states("builds --json --failed --last 1"), of(&all[2..3]));
    assert_eq!(states("builds --json --box leap"), of(&all[2..3]));
    // However the folder is written.
    for description in ["image", "./image/../image", "image/"] {
        let line = format!("builds --json --description {description}");
        assert_eq!(states(&line), of(&all[1..2]), "{description}");
    }
    let page = include_str!("../../../docs/json.md");
    for row in user.listed("builds --json") {
        for key in row.as_object().unwrap().keys() {
            assert!(
                page.contains(&format!("`{key}`")),
                "{key} is not in docs/json.md"
            );
        }
    }
    let ended = user.run("builds");
    assert_eq!(ended.code, 0);
    assert!(!ended.stdout.contains('\u{1b}'), "{:?}", ended.stdout);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{}", ended.stdout);
    for words in [
        "12.5 s",
        "built",
        "5.0 MiB",
        "0123456789ab",
        "debian (kvm)",
        "/srv/a",
    ] {
        assert!(lines[0].contains(words), "{words}: {}", lines[0]);
    }
    assert!(lines[1].contains("it went wrong"), "{}", lines[1]);
    assert!(lines[4].contains("newer boxbuild"), "{}", lines[4]);
}

#[test]
fn the_log_of_a_build_is_its_own() {
    let user = User::new();
    let target = user.work().join("out");
    fs::create_dir(&target).unwrap();
    let path = target.join("result.log");
    fs::write(&path, "one\ntwo\x1b[2J\n").unwrap();
    let found = fs::metadata(&path).unwrap();
    let time = found.mtime() * 1_000_000_000 + found.mtime_nsec();
    let mut ended = end("built", 0);
    ended["log"] = json!([found.dev(), found.ino(), time]);
    user.has_built(7, &json!({ "end": ended, "target_dir": target }));
    for line in ["logs 7", "logs", "logs --follow 7"] {
        let ended = user.run(line);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (0, "one\ntwo\n"),
            "{line}: {}",
            ended.stderr
        );
    }
    fs::write(target.join("new"), "another's").unwrap();
    fs::rename(target.join("new"), &path).unwrap();
    let ended = user.run("logs 7");
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("a later build wrote its own"),
        "{}",
        ended.stderr
    );
    let ended = user.run("logs 8");
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("no build 8 in the history"),
        "{}",
        ended.stderr
    );
    let ended = user.run("logs --follow");
    assert!(ended.stderr.contains("no build runs"), "{}", ended.stderr);
}

/// From another terminal, until the build ends; the exit code is the build's.
#[test]
fn a_log_is_followed_until_its_build_ends() {
    for (status, code, words) in [
        (Some("built"), 0, "built in 12.5 s"),
        (Some("failed"), 1, "it went wrong"),
        (Some("failed"), 124, "it went wrong"),
        // A record that contradicts itself is no success.
        (Some("failed"), 0, "failed after"),
        (None, 3, "was killed"),
    ] {
        let user = User::new();
        let target = user.work().join("out");
        user.has_built(1, &json!({ "target_dir": target }));
        let lock = user.runs(1);
        let mut command = user.command(boxbuild());
        let command = command.args(["logs", "--follow"]);
        let mut follower = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = follower.stdout.take().unwrap();
        let share = target.join(".boxbuild.partial/bundle");
        fs::create_dir_all(&share).unwrap();
        let mut log = File::create(share.join("result.log")).unwrap();
        let mut read = String::new();
        for line in ["one\n", "two\n"] {
            log.write_all(line.as_bytes()).unwrap();
            let mut bytes = vec![0; line.len()];
            stdout.read_exact(&mut bytes).unwrap();
            read += std::str::from_utf8(&bytes).unwrap();
        }
        assert_eq!(read, "one\ntwo\n");
        assert!(follower.try_wait().unwrap().is_none());
        log.write_all(b"three").unwrap();
        fs::rename(share.join("result.log"), target.join("result.log")).unwrap();
        fs::remove_dir_all(share.parent().unwrap()).unwrap();
        if let Some(status) = status {
            user.has_built(
                1,
                &json!({ "end": end(status, code), "target_dir": target }),
            );
        }
        drop(lock);
        let began = Instant::now();
        let ended = follower.wait().unwrap();
        assert!(began.elapsed() < Duration::from_secs(20));
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "three\n");
        let mut stderr = String::new();
        follower
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert!(stderr.contains(words), "{status:?}: {stderr}");
        let expected = if status == Some("failed") && code == 0 {
            1
        } else {
            code
        };
        assert_eq!(ended.code(), Some(expected.into()), "{status:?}: {stderr}");
    }
}

#[test]
fn a_history_that_cannot_be_read_is_told() {
    let user = User::new();
    let folder = user.history();
    fs::remove_dir(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let ended = user.run("builds");
    assert_eq!(ended.code, 3, "{}", ended.stdout);
    assert!(ended.stderr.contains("history"), "{}", ended.stderr);
}

/// What takes room is told, with what can go.
#[test]
fn df_has_all_that_is_kept() {
    let user = User::new();
    let store = user.home().join(".kiwi_boxes");
    let kept = store.join(".builds/debian-1");
    let cache = user.home().join(".cache/boxbuild/kernels");
    let fetch = store.join(".fetch-leap.x86_64");
    for folder in [&kept, &cache, &fetch] {
        fs::create_dir_all(folder).unwrap();
    }
    for (path, bytes) in [
        (kept.join("build.json"), 10),
        (kept.join("result.log"), 64 << 10),
        (kept.join("disk"), 1 << 20),
        (cache.join("x"), 128 << 10),
        (fetch.join("disk"), 256 << 10),
    ] {
        fs::write(path, vec![1; bytes]).unwrap();
    }
    user.has_built(1, &json!({ "end": end("built", 0) }));
    let ended = user.run("df --json");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    let page = include_str!("../../../docs/json.md");
    let kinds = document["kinds"].as_array().unwrap();
    let of = |kind: &str, key: &str| -> u64 {
        let row = kinds.iter().find(|row| row["kind"] == kind);
        row.unwrap_or_else(|| panic!("{kind}: {document}"))[key]
            .as_u64()
            .unwrap()
    };
    for key in kinds[0]
        .as_object()
        .unwrap()
        .keys()
        .chain(document.as_object().unwrap().keys())
    {
        assert!(
            page.contains(&format!("`{key}`")),
            "{key} is not in docs/json.md"
        );
    }
    assert_eq!(of("kept builds", "apparent_bytes"), (1 << 20) + 10);
    assert!(of("kept builds", "prunable_bytes") >= 1 << 20, "{document}");
    assert_eq!(of("logs", "apparent_bytes"), 64 << 10);
    assert_eq!(of("cache", "apparent_bytes"), 128 << 10);
    assert!(of("cache", "prunable_bytes") >= 128 << 10, "{document}");
    assert_eq!(of("downloads", "apparent_bytes"), 256 << 10);
    assert!(of("downloads", "prunable_bytes") >= 256 << 10, "{document}");
    assert!(of("history", "apparent_bytes") > 100 && of("history", "prunable_bytes") == 0);
    let sum: u64 = kinds.iter().map(|row| row["bytes"].as_u64().unwrap()).sum();
    assert_eq!(document["bytes"], sum);
    // What it says, prune does.
    let pruned = user.run("prune --all --json");
    let pruned: Value = serde_json::from_str(&pruned.stdout).unwrap();
    assert_eq!(pruned["bytes"], document["prunable_bytes"], "{pruned}");
    let ended = user.run("df --verbose");
    assert!(
        ended.stdout.contains("history") && ended.stdout.contains("total"),
        "{}",
        ended.stdout
    );
    // Nothing is there yet, and nothing is made.
    let fresh = User::new();
    assert_eq!(fresh.run("df").code, 0);
    assert_eq!(fs::read_dir(fresh.home()).unwrap().count(), 0);
}
