//! The real apt fetches through the cache, and compares all that it gets with the hashes of its lists.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use boxbuild_host::digest::hex;
use sha2::{Digest, Sha256};

use crate::mirror::{Mirror, body};
use crate::network::Network;

/// Has apt fetch the packages at `paths` of the mirror twice, over `front`.
pub fn judge(network: Network, mirror: &Mirror, front: TcpListener, paths: &[String]) {
    if !Command::new("apt-get")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return println!(
            "skipped: apt's hashes of what random kills have left: apt is not installed"
        );
    }
    let names: Vec<String> = (0..paths.len())
        .map(|number| format!("k{number}"))
        .collect();
    let mut packages = String::new();
    for (name, path) in names.iter().zip(paths) {
        let bytes = body(path);
        let (size, hash) = (bytes.len(), hex(&Sha256::digest(&bytes)));
        let path = path.trim_start_matches('/');
        writeln!(
            packages,
            "Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: test\n\
             Filename: {path}\nSize: {size}\nSHA256: {hash}\n"
        )
        .unwrap();
    }
    let (size, hash) = (packages.len(), hex(&Sha256::digest(&packages)));
    let release = format!(
        "Date: Sat, 01 Feb 2025 10:00:00 UTC\nSuite: test\nSHA256:\n {hash} {size} Packages\n"
    );
    mirror.set("/./Packages", packages.as_bytes());
    mirror.set("/./Release", release.as_bytes());
    for lacks in ["/./InRelease", "/./Release.gpg"] {
        mirror.lack(lacks);
    }
    let host = front.local_addr().unwrap();
    let (network, to) = (Arc::new(network), mirror.address);
    let leads = Arc::clone(&network);
    // It ends with the test's process.
    std::thread::spawn(move || {
        for program in front.incoming().flatten() {
            leads.lead(&program, to);
        }
    });
    let before: Vec<usize> = paths.iter().map(|path| mirror.sent(path)).collect();
    for round in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("sources.list"),
            format!("deb [trusted=yes] http://{host}/ ./\n"),
        )
        .unwrap();
        for part in ["state/lists/partial", "cache/archives/partial", "got"] {
            std::fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        std::fs::write(dir.path().join("status"), "").unwrap();
        apt(dir.path(), &["update"]);
        let words: Vec<&str> = std::iter::once("download")
            .chain(names.iter().map(String::as_str))
            .collect();
        apt(dir.path(), &words);
        let files = std::fs::read_dir(dir.path().join("got")).unwrap().flatten();
        let files: Vec<_> = files.map(|file| file.path()).collect();
        // apt names them after the package, and gives them the end that the path has.
        let got = |name: &str| {
            let begin = dir.path().join("got").join(format!("{name}_1_all"));
            let begin = begin.to_str().unwrap();
            files
                .iter()
                .find(|file| file.to_str().unwrap().starts_with(begin))
        };
        let is_right = |(name, path): &(&String, &String)| {
            got(name).is_some_and(|file| std::fs::read(file).unwrap() == body(path))
        };
        let wrong: Vec<_> = names
            .iter()
            .zip(paths)
            .filter(|one| !is_right(one))
            .collect();
        assert!(wrong.is_empty(), "round {round}: {wrong:?}");
    }
    let kept = paths
        .iter()
        .zip(before)
        .filter(|(path, sent)| mirror.sent(path) == *sent);
    let kept = kept.count();
    println!(
        "apt has fetched {} packages twice, {kept} of them from the cache alone",
        paths.len()
    );
    assert_eq!(kept, paths.len());
    drop(network);
}

#[track_caller]
fn apt(dir: &Path, words: &[&str]) {
    let option = |name: &str, value: &str| format!("{name}={}", dir.join(value).display());
    let mut command = Command::new("apt-get");
    for option in [
        option("Dir::State", "state"),
        option("Dir::State::status", "status"),
        option("Dir::Cache", "cache"),
        option("Dir::Etc::SourceList", "sources.list"),
        option("Dir::Etc::SourceParts", "none"),
        option("Dir::Etc::Main", "none"),
        option("Dir::Etc::Parts", "none"),
        option("Dir::Etc::Preferences", "none"),
        option("Dir::Etc::PreferencesParts", "none"),
        String::from("APT::Sandbox::User=root"),
        String::from("APT::Get::AllowUnauthenticated=true"),
        String::from("Acquire::Languages=none"),
        String::from("Acquire::http::Proxy=DIRECT"),
        String::from("Acquire::Retries=0"),
    ] {
        command.args(["-o", &option]);
    }
    let output = command
        .args(words)
        .current_dir(dir.join("got"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success()
            && !said.contains("Hash Sum mismatch")
            && !said.contains("Failed to fetch"),
        "{words:?}: {said}"
    );
}
