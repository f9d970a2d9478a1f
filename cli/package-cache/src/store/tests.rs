use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_cache_semantics::CacheOptions;

use super::suffix::{BODY, PART};
use super::*;
use crate::kind::Kind;

const BOOT: &str = "boot";

fn store(folder: &Path, limit: u64) -> Arc<Store> {
    booted(folder, limit, BOOT)
}

fn booted(folder: &Path, limit: u64, boot: &str) -> Arc<Store> {
    let folder = File::open(folder).unwrap();
    Arc::new(Store::new(folder.into(), boot.to_owned(), limit))
}

fn key(target: &str) -> Key {
    Key::new(Server::Named("deb.example"), target)
}

fn policy() -> CachePolicy {
    let request = http::Request::get("http://deb.example/a").body(()).unwrap();
    let response = http::Response::builder()
        .header("etag", "\"a\"")
        .body(())
        .unwrap();
    let options = CacheOptions::default();
    CachePolicy::new_options(&request, &response, SystemTime::now(), options)
}

fn ours(store: &Arc<Store>, key: &Key) -> Download {
    match store.claim(key).unwrap() {
        Claim::Ours(download) => download,
        Claim::Others(_) => panic!("another one fetches it"),
    }
}

fn keep(store: &Arc<Store>, key: &Key, body: &[u8], kind: &Kind) -> io::Result<()> {
    let mut download = ours(store, key);
    download.write(body).unwrap();
    download.keep(Vec::new(), policy(), kind)
}

fn body(stored: &Stored) -> Vec<u8> {
    let mut bytes = vec![0; stored.length() as usize];
    stored.body.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_kept_is_found_by_every_process() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (store(dir.path(), 1 << 20), store(dir.path(), 1 << 20));
    assert!(one.lookup(&key("/a")).is_none());
    keep(&one, &key("/a"), b"package", &Kind::Package).unwrap();
    // The same body at another address takes no room.
    keep(&other, &key("/b"), b"package", &Kind::Package).unwrap();
    assert_eq!(body(&other.lookup(&key("/a")).unwrap()), b"package");
    assert_eq!(body(&one.lookup(&key("/b")).unwrap()), b"package");
    assert!(one.lookup(&key("/c")).is_none());
    let bodies = names(dir.path())
        .iter()
        .filter(|name| name.ends_with(BODY))
        .count();
    assert_eq!(bodies, 1);
}

#[test]
fn one_fetches_and_all_others_see_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (store(dir.path(), 1 << 20), store(dir.path(), 1 << 20));
    let mut download = ours(&one, &key("/a"));
    let Claim::Others(waiting) = other.claim(&key("/a")).unwrap() else {
        panic!("two fetch it");
    };
    assert!(waiting.announced().is_none() && !waiting.is_over());
    let announced = Announced {
        fields: Vec::new(),
        length: 7,
    };
    download.announce(&announced).unwrap();
    assert_eq!(waiting.announced(), Some(announced));
    download.write(b"pack").unwrap();
    assert_eq!(waiting.file.metadata().unwrap().len(), 4);
    download.write(b"age").unwrap();
    download.keep(Vec::new(), policy(), &Kind::Package).unwrap();
    assert!(waiting.is_over());
    assert_eq!(body(&waiting.stored().unwrap()), b"package");
    assert!(names(dir.path()).iter().all(|name| !name.starts_with('.')));
}

#[test]
fn a_download_that_ends_early_leaves_nothing_and_the_next_one_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    let mut download = ours(&store, &key("/a"));
    download
        .announce(&Announced {
            fields: Vec::new(),
            length: 7,
        })
        .unwrap();
    download.write(b"pack").unwrap();
    let Claim::Others(waiting) = store.claim(&key("/a")).unwrap() else {
        panic!("two fetch it");
    };
    drop(download);
    assert!(waiting.is_over() && waiting.announced().is_none() && waiting.stored().is_none());
    assert_eq!(names(dir.path()), Vec::<String>::new());
    // As a killed process leaves it.
    std::fs::write(dir.path().join(key("/a").part()), "old").unwrap();
    std::fs::write(dir.path().join(key("/a").head()), "{}").unwrap();
    keep(&store, &key("/a"), b"package", &Kind::Package).unwrap();
    assert_eq!(body(&store.lookup(&key("/a")).unwrap()), b"package");
}

#[test]
fn a_body_that_is_not_what_its_address_says_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    let wrong = Kind::Hashed("0".repeat(64));
    assert!(keep(&store, &key("/a"), b"package", &wrong).is_err());
    assert!(store.lookup(&key("/a")).is_none());
    assert_eq!(names(dir.path()), Vec::<String>::new());
    let right = boxbuild_host::digest::sha256(&mut &b"package"[..])
        .unwrap()
        .1;
    keep(&store, &key("/a"), b"package", &Kind::Hashed(right)).unwrap();
    assert!(store.lookup(&key("/a")).is_some());
}

#[test]
fn after_a_crash_of_the_host_bodies_are_read_before_they_are_used() {
    let dir = tempfile::tempdir().unwrap();
    keep(
        &store(dir.path(), 1 << 20),
        &key("/a"),
        b"package",
        &Kind::Package,
    )
    .unwrap();
    keep(
        &store(dir.path(), 1 << 20),
        &key("/b"),
        b"another",
        &Kind::Package,
    )
    .unwrap();
    let name = names(dir.path()).into_iter().find(|name| {
        name.ends_with(BODY) && std::fs::read(dir.path().join(name)).unwrap() == b"package"
    });
    // What the kernel had not written is zeros.
    std::fs::write(dir.path().join(name.unwrap()), [0; 7]).unwrap();
    let later = booted(dir.path(), 1 << 20, "next");
    assert!(later.lookup(&key("/a")).is_none());
    assert_eq!(body(&later.lookup(&key("/b")).unwrap()), b"another");
    // It is of this boot now.
    let entry = later.lookup(&key("/b")).unwrap().entry;
    assert_eq!(entry.boot, "next");
    assert_eq!(
        names(dir.path())
            .iter()
            .filter(|name| name.ends_with(BODY))
            .count(),
        1
    );
}

#[test]
fn damaged_files_are_no_answers() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    for damage in ["", "{", "null", "[]"] {
        keep(&store, &key("/a"), b"package", &Kind::Package).unwrap();
        std::fs::write(dir.path().join(key("/a").entry()), damage).unwrap();
        assert!(store.lookup(&key("/a")).is_none(), "{damage}");
    }
    // An entry of another address under this one's name.
    keep(&store, &key("/a"), b"package", &Kind::Package).unwrap();
    let (from, to) = (key("/a").entry(), key("/b").entry());
    std::fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    assert!(store.lookup(&key("/b")).is_none());
}

/// The folder is made smaller when a build starts: until then, a guest could fill the disk, with bytes or with
/// files.
#[test]
fn one_process_adds_no_more_than_the_folder_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 2 * OF_ANSWER + 1000);
    keep(&store, &key("/a"), &[1; 600], &Kind::Package).unwrap();
    let mut download = ours(&store, &key("/b"));
    download.write(&[2; 300]).unwrap();
    assert!(download.write(&[2; 300]).is_err());
    drop(download);
    assert!(ours(&store, &key("/c")).write(&[3]).is_err());
    assert!(store.lookup(&key("/a")).is_some());
    let left = names(dir.path());
    assert!(left.iter().all(|name| !name.ends_with(PART)), "{left:?}");
    // The next one may again.
    keep(
        &booted(dir.path(), store.limit, BOOT),
        &key("/b"),
        &[2; 600],
        &Kind::Package,
    )
    .unwrap();
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let full = store(dir.path(), 1 << 20);
    let store = store(dir.path(), 2 * (1000 + OF_ANSWER) + 500);
    let mut clock = SystemTime::now() - Duration::from_secs(100);
    for (number, target) in ["/a", "/b", "/c"].into_iter().enumerate() {
        keep(&full, &key(target), &[number as u8; 1000], &Kind::Package).unwrap();
        let file = File::options()
            .write(true)
            .open(dir.path().join(key(target).entry()));
        file.unwrap().set_modified(clock).unwrap();
        clock += Duration::from_secs(1);
    }
    assert!(store.lookup(&key("/a")).is_some(), "it is used now");
    std::fs::write(
        dir.path().join(format!("{}{BODY}", "0".repeat(64))),
        "orphan",
    )
    .unwrap();
    std::fs::write(dir.path().join(key("/x").part()), "of a killed process").unwrap();
    let fetched = ours(&store, &key("/y"));
    store.tidy();
    let found = |target| store.lookup(&key(target)).is_some();
    assert!(found("/a") && !found("/b") && found("/c"));
    let left = names(dir.path());
    assert_eq!(
        left.iter().filter(|name| name.ends_with(BODY)).count(),
        2,
        "{left:?}"
    );
    let parts: Vec<&String> = left.iter().filter(|name| name.ends_with(PART)).collect();
    assert_eq!(parts, [&key("/y").part()]);
    drop(fetched);
}

/// A package that is built again under its old name has another hash in the lists of its server.
#[test]
fn packages_are_asked_about_again_once_lists_have_changed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path(), 1 << 20);
    keep(&store, &key("/Release"), b"one", &Kind::Other).unwrap();
    keep(&store, &key("/a.deb"), b"package", &Kind::Package).unwrap();
    let unchanged = || {
        let stored = store.lookup(&key("/a.deb")).unwrap();
        store.is_unchanged(&key("/a.deb"), &stored)
    };
    assert!(unchanged());
    keep(&store, &key("/Release"), b"one", &Kind::Other).unwrap();
    assert!(unchanged());
    keep(&store, &key("/Release"), b"two", &Kind::Other).unwrap();
    assert!(!unchanged());
    let mut stored = store.lookup(&key("/a.deb")).unwrap();
    store.refresh(&key("/a.deb"), &mut stored, policy());
    assert!(unchanged());
    // What has changed since it was removed is not known.
    std::fs::remove_file(dir.path().join(key("/a.deb").changes())).unwrap();
    assert!(!unchanged());
}
