//! Folders among the results.

use std::ffi::{OsStr, OsString};
use std::io;

use boxbuild_host::digest::hex;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::{Dir, FileKind, remove_tree};
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use super::modes::{Modes, open_file, open_folder};
use super::names::objection;

/// How deep folders among the results may be.
const DEEPEST: usize = 64;

/// How many files and folders there may be in all folders among the results.
pub(super) const MOST_INSIDE: usize = 100_000;

/// What was left out of a folder.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// How many entries, with everything in them.
    pub(super) count: usize,
    /// One of them, and why.
    pub(super) example: Option<(OsString, &'static str)>,
}

/// Gives everything in the folder `name` of `share` its mode, has it written to the disk, and removes
/// what is no result. `room` is how many entries there may be. No path is used, and as many
/// descriptors as the folder is deep.
///
/// # Errors
/// Fails if that is not possible, or `stop` says to stop.
pub(super) fn prepare(
    share: &Dir,
    name: &OsStr,
    modes: Modes,
    room: &mut usize,
    stop: &StopCheck,
) -> io::Result<LeftOut> {
    let mut left_out = LeftOut::default();
    let mut open = vec![Level::open(share, name)?];
    while let Some(level) = open.last_mut() {
        stop.check().map_err(io::Error::other)?;
        let Some(name) = level.names.pop() else {
            level.dir.set_mode(modes.folder)?;
            level.dir.sync()?;
            open.pop();
            continue;
        };
        let kind = level.dir.status(&name)?;
        let objection = objection(&name).or(match kind.kind {
            _ if kind.owner != geteuid().as_raw() => Some("it belongs to another user"),
            FileKind::Link => Some("a symbolic link"),
            FileKind::Special => Some("neither a file nor a folder"),
            _ if *room == 0 => Some("there are too many files"),
            FileKind::Folder if open.len() >= DEEPEST => Some("it is too deep"),
            FileKind::Regular | FileKind::Folder => None,
        });
        let Some(level) = open.last() else { break };
        if let Some(why) = objection {
            remove_tree(&level.dir, &name, stop)?;
            left_out.count += 1;
            left_out.example.get_or_insert((name, why));
            continue;
        }
        *room -= 1;
        if kind.kind == FileKind::Folder {
            let next = Level::open(&level.dir, &name)?;
            open.push(next);
        } else {
            let file = open_file(&level.dir, &name)?;
            modes.set(&file)?;
            file.sync_all()?;
        }
    }
    Ok(left_out)
}

/// What tells the folder `name` of `parent` with everything in it from all others, and from itself once
/// something in it was added, removed or replaced: a hash of the inodes and their names.
///
/// # Errors
/// Fails if it cannot be read, or is no folder that [`prepare`] could have made.
pub(super) fn fingerprint(parent: &Dir, name: &OsStr) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut count = 0;
    let mut open = vec![Level::read(parent.folder(name)?)?];
    while let Some(level) = open.last_mut() {
        let Some(name) = level.names.pop() else {
            hash.update([b'.']);
            open.pop();
            continue;
        };
        count += 1;
        let status = level.dir.status(&name)?;
        let next = match status.kind {
            FileKind::Folder => Some(Level::read(level.dir.folder(&name)?)?),
            _ => None,
        };
        if count > MOST_INSIDE || open.len() > DEEPEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (seconds, nanoseconds) = status.born.unwrap_or_default();
        hash.update([status.kind as u8]);
        hash.update(status.inode.to_le_bytes());
        hash.update(seconds.to_le_bytes());
        hash.update(nanoseconds.to_le_bytes());
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_encoded_bytes());
        open.extend(next);
    }
    Ok(hex(&hash.finalize()))
}

/// A folder that is worked on.
struct Level {
    dir: Dir,
    /// The last one is next.
    names: Vec<OsString>,
}

impl Level {
    fn open(parent: &Dir, name: &OsStr) -> io::Result<Level> {
        let dir = open_folder(parent, name)?;
        dir.set_mode(0o700)?;
        Level::read(dir)
    }

    fn read(dir: Dir) -> io::Result<Level> {
        // More than there may be are seen in the rest.
        let names = dir.names()?.take(MOST_INSIDE + 1);
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_by(|one, other| other.cmp(one));
        Ok(Level { dir, names })
    }
}
