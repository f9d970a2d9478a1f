//! The hash of a description: that of its tree in git, with SHA-256, whether or not it is in git.
//!
//! Anyone can compute it: `git init --object-format=sha256`, `git add --force --all`, `git write-tree`.
//! It covers names, contents, links and whether files can be executed; `.git`, empty folders, owners
//! and times are no part of it.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use boxbuild_host::digest::hex;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::{Dir, FileKind};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::program::run;
use crate::tree::MOST;

/// How deep folders may be.
const DEEPEST: usize = 64;
/// Bytes of all files, at most.
const MOST_BYTES: u64 = 1 << 40;
/// How long git may take.
const GIT_TIME: std::time::Duration = std::time::Duration::from_secs(20);

/// What a description is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its tree in git with SHA-256, in lower-case hex.
    pub tree: String,
    /// What git has checked out there.
    pub revision: Option<Revision>,
}

/// What git has checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// The commit, in lower-case hex.
    pub commit: String,
    /// The folder is as the commit has it.
    pub clean: bool,
}

/// Whether an entry of a folder is no part of the description.
pub type Skip<'a> = dyn Fn(&Dir, &OsStr) -> bool + 'a;

/// Hashes the folder at `path`. `skip` says what in it is not the description's.
///
/// # Errors
/// Fails if it cannot be read, is too large, or `stop` says to stop.
pub fn describe(path: &Path, skip: &Skip<'_>, stop: &StopCheck) -> io::Result<Described> {
    let dir = Dir::open(path)?;
    let mut walk = Walk {
        skip,
        stop,
        entries: 0,
        bytes: 0,
    };
    let tree = walk.tree(&dir, 0)?.unwrap_or_else(|| Ids::of("tree", b""));
    Ok(Described {
        revision: revision(path, &hex(&tree.sha1), &hex(&tree.sha256)),
        tree: hex(&tree.sha256),
    })
}

/// The ids of an object of git, in both of its formats.
struct Ids {
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Ids {
    fn of(kind: &str, contents: &[u8]) -> Ids {
        let mut hash = Hash::begin(kind, contents.len() as u64);
        hash.update(contents);
        hash.finish()
    }
}

struct Hash {
    sha1: Sha1,
    sha256: Sha256,
}

impl Hash {
    /// An object begins with its kind and length (gitformat-pack(5) and the git book, "Git Objects").
    fn begin(kind: &str, len: u64) -> Hash {
        let mut hash = Hash {
            sha1: Sha1::new(),
            sha256: Sha256::new(),
        };
        hash.update(format!("{kind} {len}\0").as_bytes());
        hash
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha1.update(bytes);
        self.sha256.update(bytes);
    }

    fn finish(self) -> Ids {
        Ids {
            sha1: self.sha1.finalize().into(),
            sha256: self.sha256.finalize().into(),
        }
    }
}

struct Entry {
    name: OsString,
    mode: &'static str,
    ids: Ids,
}

impl Entry {
    /// Folders are sorted as if their names ended with a slash.
    fn key(&self) -> Vec<u8> {
        let mut key = self.name.as_bytes().to_vec();
        if self.mode == FOLDER {
            key.push(b'/');
        }
        key
    }
}

const FOLDER: &str = "40000";

struct Walk<'a> {
    skip: &'a Skip<'a>,
    stop: &'a StopCheck,
    entries: usize,
    bytes: u64,
}

impl Walk<'_> {
    /// The ids of a folder; `None` of an empty one, which git does not know.
    fn tree(&mut self, dir: &Dir, depth: usize) -> io::Result<Option<Ids>> {
        if depth > DEEPEST {
            return Err(too_much("folders that are too deep"));
        }
        let mut entries = Vec::new();
        for name in dir.names()? {
            self.stop.check().map_err(io::Error::other)?;
            let name = name?;
            if name == ".git" || (self.skip)(dir, &name) {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST {
                return Err(too_much("too many files and folders"));
            }
            let (mode, ids) = match dir.status(&name)?.kind {
                FileKind::Folder => match self.tree(&dir.folder(&name)?, depth + 1)? {
                    Some(ids) => (FOLDER, ids),
                    None => continue,
                },
                FileKind::Regular => self.file(dir, &name)?,
                FileKind::Link => {
                    let target = rustix::fs::readlinkat(dir, &*name, Vec::new())?;
                    ("120000", Ids::of("blob", target.as_bytes()))
                }
                // git has no such thing.
                FileKind::Special => continue,
            };
            entries.push(Entry { name, mode, ids });
        }
        if entries.is_empty() {
            return Ok(None);
        }
        entries.sort_by_key(Entry::key);
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for entry in &entries {
            for (tree, id) in [
                (&mut short, &entry.ids.sha1[..]),
                (&mut long, &entry.ids.sha256),
            ] {
                tree.extend(entry.mode.bytes());
                tree.push(b' ');
                tree.extend(entry.name.as_bytes());
                tree.push(0);
                tree.extend(id);
            }
        }
        Ok(Some(Ids {
            sha1: Ids::of("tree", &short).sha1,
            sha256: Ids::of("tree", &long).sha256,
        }))
    }

    fn file(&mut self, dir: &Dir, name: &OsStr) -> io::Result<(&'static str, Ids)> {
        let mut file = dir.file(name)?;
        let metadata = file.metadata()?;
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > MOST_BYTES {
            return Err(too_much("too much in its files"));
        }
        let mut hash = Hash::begin("blob", metadata.len());
        let mut left = metadata.len();
        let mut buffer = vec![0; 256 << 10];
        loop {
            self.stop.check().map_err(io::Error::other)?;
            let count = file.read(&mut buffer)?;
            if count == 0 && left == 0 {
                break;
            }
            left = left
                .checked_sub(count as u64)
                .filter(|_| count > 0)
                .ok_or_else(|| {
                    io::Error::other(format!(
                        "'{}' changes while it is read",
                        boxbuild_host::text::shown(&name.to_string_lossy())
                    ))
                })?;
            hash.update(&buffer[..count]);
        }
        let mode = match metadata.permissions().mode() & 0o100 {
            0 => "100644",
            _ => "100755",
        };
        Ok((mode, hash.finish()))
    }
}

fn too_much(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has {text}"))
}

/// When the commit was made that git has checked out at `folder`, in seconds since the epoch.
pub fn commit_time(folder: &Path) -> Option<u64> {
    let commit = git(folder, &["cat-file", "commit", "HEAD"])?;
    // committer NAME <MAIL> SECONDS ZONE (git-commit-tree(1)).
    let line = commit
        .lines()
        .find_map(|line| line.strip_prefix("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

/// What git has checked out in a folder, whose trees with both hashes are known.
fn revision(folder: &Path, sha1: &str, sha256: &str) -> Option<Revision> {
    let id = |revision: &str| {
        let id = git(folder, &["rev-parse", "--verify", "--quiet", revision])?;
        let id = id.trim().to_owned();
        let fits = [40, 64].contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then_some(id)
    };
    let commit = id("HEAD^{commit}")?;
    let tree = id("HEAD:./").unwrap_or_default();
    Some(Revision {
        clean: tree == sha1 || tree == sha256,
        commit,
    })
}

/// What git says of the repository that a folder is in. Its configuration may come from anyone: nothing is
/// asked for that runs a program of it.
fn git(folder: &Path, words: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder);
    command
        .args(["-c", "core.fsmonitor=false", "--no-pager"])
        .args(words);
    for variable in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
    ] {
        command.env_remove(variable);
    }
    // An object that is missing could be fetched, by a command of the configuration (git(1)).
    command.env("GIT_NO_LAZY_FETCH", "1");
    command.env("GIT_ALLOW_PROTOCOL", "none");
    command.env("GIT_TERMINAL_PROMPT", "0");
    let stop = StopCheck::within(&Interrupt::of_process(), GIT_TIME);
    let output = run(&mut command, b"", &stop).ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.success.then_some(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn git(folder: &Path, words: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["-c", "user.name=x", "-c", "user.email=x@y"])
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn has_git() -> bool {
        let found = Command::new("git").arg("--version").output().is_ok();
        if !found {
            println!("skipped: the hash of a description: no git");
        }
        found
    }

    fn description(folder: &Path) {
        for name in ["root/etc", "root.d", "empty"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("config.xml"), "<image/>").unwrap();
        fs::write(folder.join("root/etc/x y"), vec![7; 300_000]).unwrap();
        fs::write(folder.join("root.d/a"), "").unwrap();
        fs::write(folder.join("config.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(folder.join("config.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../x", folder.join("root/link")).unwrap();
    }

    fn of(folder: &Path) -> Described {
        describe(folder, &|_, _| false, &StopCheck::default()).unwrap()
    }

    #[test]
    fn the_hash_is_that_of_git() {
        if !has_git() {
            return;
        }
        for format in ["sha1", "sha256"] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("description");
            description(&folder);
            let before = of(&folder);
            assert_eq!(before.revision, None);
            git(
                &folder,
                &["init", "-q", &format!("--object-format={format}")],
            );
            git(&folder, &["add", "--force", "--all"]);
            let tree = git(&folder, &["write-tree"]);
            if format == "sha256" {
                assert_eq!(before.tree, tree);
            }
            git(&folder, &["commit", "-q", "-m", "x"]);
            let revision = of(&folder).revision.unwrap();
            assert_eq!(revision.commit, git(&folder, &["rev-parse", "HEAD"]));
            assert!(revision.clean);
            let time = git(&folder, &["log", "-1", "--format=%ct"]);
            assert_eq!(commit_time(&folder), time.parse().ok());
            // A folder in the repository is clean by itself.
            assert!(of(&folder.join("root")).revision.unwrap().clean);
            fs::write(folder.join("more"), "").unwrap();
            assert!(!of(&folder).revision.unwrap().clean);
            assert_ne!(of(&folder).tree, before.tree);
        }
    }

    #[test]
    fn what_is_not_the_descriptions_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        description(dir.path());
        let before = of(dir.path()).tree;
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/image"), "x").unwrap();
        let skip = |_: &Dir, name: &OsStr| name == "out";
        let after = describe(dir.path(), &skip, &StopCheck::default()).unwrap();
        assert_eq!(after.tree, before);
    }

    /// A repository's configuration may come from anyone.
    #[test]
    fn a_repository_runs_no_program_of_its_configuration() {
        if !has_git() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let folder = dir.path().join("description");
        description(&folder);
        git(&folder, &["init", "-q"]);
        git(&folder, &["add", "--force", "--all"]);
        git(&folder, &["commit", "-q", "-m", "x"]);
        let program = format!("touch {}; false", mark.display());
        for (name, value) in [
            ("core.fsmonitor", program.as_str()),
            ("core.sshCommand", &program),
            ("core.pager", &program),
            ("remote.origin.url", "ssh://host.invalid/x"),
            ("remote.origin.promisor", "true"),
            ("remote.origin.partialclonefilter", "blob:none"),
            ("extensions.partialClone", "origin"),
            ("protocol.ssh.allow", "always"),
        ] {
            git(&folder, &["config", name, value]);
        }
        // A tree that is missing would be fetched.
        let tree = git(&folder, &["rev-parse", "HEAD^{tree}"]);
        let object = folder
            .join(".git/objects")
            .join(&tree[..2])
            .join(&tree[2..]);
        fs::remove_file(object).unwrap();
        let _ = of(&folder);
        assert!(!mark.exists());
    }
}
