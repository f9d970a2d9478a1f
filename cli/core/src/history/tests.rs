//! Tests of the history.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use super::record::{FileRecord, LONGEST};
use super::*;

fn record(name: &str) -> Record {
    Record {
        format: Record::FORMAT,
        box_name: name.to_owned(),
        started: 1_780_000_000,
        ..Record::default()
    }
}

fn built() -> End {
    End {
        status: Status::Built,
        ..End::default()
    }
}

fn states(history: &History) -> Vec<(u64, State)> {
    let listed = history.list().unwrap();
    listed.iter().map(|build| (build.id, build.state)).collect()
}

#[test]
fn a_build_runs_and_then_has_ended_or_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::at(dir.path().join("state/history"));
    assert_eq!(states(&history), []);
    let one = history.begin_with(record("a")).unwrap();
    let two = history.begin_with(record("b")).unwrap();
    assert_eq!(states(&history), [(1, State::Running), (2, State::Running)]);
    assert!(history.remove(1).is_err());
    one.end(built()).unwrap();
    drop(two);
    assert_eq!(states(&history), [(1, State::Ended), (2, State::Lost)]);
    // A number is not given again while a build with it is known.
    let three = history.begin_with(record("c")).unwrap();
    assert_eq!(three.id(), 3);
    three.end(End::error("no", 3)).unwrap();
    history.remove(2).unwrap();
    assert_eq!(states(&history), [(1, State::Ended), (3, State::Ended)]);
    let mode = fs::metadata(dir.path().join("state/history")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
        0o700
    );
}

#[test]
fn builds_at_the_same_time_have_numbers_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::at(dir.path().join("history"));
    let together = Arc::new(Barrier::new(16));
    let builds: Vec<_> = (0..16)
        .map(|number| {
            let (history, together) = (history.clone(), Arc::clone(&together));
            thread::Builder::new()
                .spawn(move || {
                    together.wait();
                    let entry = history.begin_with(record(&number.to_string())).unwrap();
                    let _ = history.list().unwrap();
                    entry.end(built()).unwrap();
                })
                .unwrap()
        })
        .collect();
    builds.into_iter().for_each(|build| build.join().unwrap());
    let listed = history.list().unwrap();
    assert_eq!(listed.len(), 16);
    let mut names: Vec<u32> = listed
        .iter()
        .map(|build| build.record.as_ref().unwrap().box_name.parse().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, (0..16).collect::<Vec<_>>());
    assert!(listed.iter().all(|build| build.state == State::Ended));
}

#[test]
fn the_oldest_go_and_one_that_runs_stays() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::at(dir.path().to_owned());
    let first = history.begin_with(record("first")).unwrap();
    for _ in 0..5 {
        history
            .begin_with(record("x"))
            .unwrap()
            .end(built())
            .unwrap();
    }
    let own = history.make().unwrap();
    history.limit(&own, 3, u64::MAX).unwrap();
    let ids =
        |history: &History| -> Vec<u64> { states(history).into_iter().map(|(id, _)| id).collect() };
    assert_eq!(ids(&history), [1, 4, 5, 6]);
    // By their size; the newest stays, whatever its size.
    history.limit(&own, 100, 1).unwrap();
    assert_eq!(ids(&history), [1, 6]);
    first.end(built()).unwrap();
}

#[test]
fn a_record_has_an_end() {
    let mut large = record("a");
    large.args = vec!["x".repeat(4000); 200];
    large.end = Some(End {
        files: vec![
            FileRecord {
                path: "y".repeat(4000),
                ..FileRecord::default()
            };
            64
        ],
        ..End::default()
    });
    let text = large.text().unwrap();
    assert!(text.len() <= LONGEST, "{}", text.len());
    let read = Record::read(&text).unwrap();
    assert_eq!(read.end.unwrap().files.len(), 1);
}

/// A record of the first version, as it is on disks: it is read by every later one.
const OF_FORMAT_1: &str = r#"{"format":1,"id":7,"version":"0.2.0","host":"h","started":1780000000,
    "description":"/d","target_dir":"/t","box":"debian","arch":"x86_64","box_sha256":"ab",
    "kiwi":"11.1.6","engine":"kvm","boot":"fast","memory_mib":4096,"cpus":4,"args":["--debug"],
    "end":{"status":"built","exit_code":0,"seconds":12.5,"reason":null,"message":null,"phase":null,
    "phases":[["boot",1.5]],"files":[{"path":"/t/x","bytes":5,"sha256":"cd"}],"bytes":5,
    "peak_memory_bytes":1,"kept":null,"log":[1,2,3]}}"#;

#[test]
fn records_of_other_versions_are_read_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::at(dir.path().to_owned());
    let write = |id: u64, text: &str| {
        fs::write(dir.path().join(format!("{id}.json")), text).unwrap();
    };
    write(7, OF_FORMAT_1);
    // A key and a word that this version does not know.
    write(
        8,
        &OF_FORMAT_1
            .replace("\"built\"", "\"mended\"")
            .replace("\"id\":7", "\"id\":8,\"new\":{}"),
    );
    // One that means something else.
    write(
        9,
        "{\"format\":2,\"version\":\"1.0\\u001b[2J\",\"id\":9,\"started\":1780000000}",
    );
    write(10, "{\"format\":1");
    write(
        11,
        "{\"format\":1,\"id\":11,\"started\":18446744073709551615,\"end\":{}}",
    );
    fs::write(dir.path().join("007.json"), OF_FORMAT_1).unwrap();
    fs::write(dir.path().join("x.json"), OF_FORMAT_1).unwrap();
    let listed = history.list().unwrap();
    let ids: Vec<u64> = listed.iter().map(|build| build.id).collect();
    assert_eq!(ids, [7, 8, 9, 10, 11]);
    let first = listed[0].record.as_ref().unwrap();
    let end = first.end.as_ref().unwrap();
    assert_eq!(
        (end.status, end.image().unwrap().sha256.as_deref()),
        (Status::Built, Some("cd"))
    );
    let second = listed[1].record.as_ref().unwrap();
    assert_eq!(second.end.as_ref().unwrap().status, Status::Unknown);
    let newer = listed[2].record.as_ref().unwrap_err();
    assert!(
        newer.contains("newer boxbuild") && !newer.contains('\u{1b}'),
        "{newer:?}"
    );
    assert!(listed[3].record.is_err());
    // A time beyond all calendars is shown all the same.
    boxbuild_host::units::date(listed[4].record.as_ref().unwrap().time());
    // What a newer one wrote stays.
    history
        .begin_with(record("a"))
        .unwrap()
        .end(built())
        .unwrap();
    assert!(dir.path().join("9.json").exists());
    assert_eq!(history.list().unwrap().last().unwrap().id, 12);
}

#[test]
fn a_link_is_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::at(dir.path().join("history"));
    history
        .begin_with(record("a"))
        .unwrap()
        .end(built())
        .unwrap();
    std::os::unix::fs::symlink("/dev/zero", history.folder().join("5.json")).unwrap();
    nix::unistd::mkfifo(
        &history.folder().join("6.json"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    let listed = history.list().unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed[1].record.is_err() && listed[2].record.is_err());
}

#[test]
fn a_log_is_followed_into_another_attempt() {
    let dir = tempfile::tempdir().unwrap();
    let mut of_build = record("a");
    of_build.target_dir = dir.path().display().to_string();
    let mut log = LiveLog::of(&of_build);
    let mut seen = Vec::new();
    assert!(!log.poll(|_| unreachable!()).unwrap().grown);
    let share = crate::output_dir::share_of(dir.path());
    fs::create_dir_all(&share).unwrap();
    fs::write(share.join("result.log"), "one\n").unwrap();
    log.poll(|line| seen.push(line.to_owned())).unwrap();
    fs::rename(&share, dir.path().join("old")).unwrap();
    fs::create_dir_all(&share).unwrap();
    log.poll(|line| seen.push(line.to_owned())).unwrap();
    fs::write(share.join("result.log"), "two\nrest").unwrap();
    log.poll(|line| seen.push(line.to_owned())).unwrap();
    // It is published: the name is gone, the log is not.
    fs::rename(share.join("result.log"), dir.path().join("result.log")).unwrap();
    fs::remove_dir_all(share.parent().unwrap()).unwrap();
    log.end(|line| seen.push(line.to_owned())).unwrap();
    assert_eq!(seen, ["one", "two", "rest"]);
}

#[test]
fn a_log_of_a_later_build_is_not_taken_for_this_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result.log");
    fs::write(&path, "mine").unwrap();
    let found = fs::File::open(&path).unwrap();
    let mut of_build = record("a");
    of_build.target_dir = dir.path().display().to_string();
    of_build.end = Some(End {
        log: super::record::identity(&found),
        ..End::default()
    });
    assert!(of_build.open_log().unwrap().is_some());
    fs::write(dir.path().join("new"), "another's").unwrap();
    fs::rename(dir.path().join("new"), Path::new(&path)).unwrap();
    assert!(of_build.open_log().unwrap().is_none());
    fs::remove_file(&path).unwrap();
    assert!(of_build.open_log().unwrap().is_none());
}
