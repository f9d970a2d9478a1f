//! The description's folder of files for the box itself, copied over the box.
//!
//! What is copied belongs to root, not to the owner of the description: programs of the box refuse
//! files of others (sshd, sudo). The box's own folders stay as they are, and a link to a folder stays
//! one: `boxroot/lib` on a box with the link `/lib` goes to `/usr/lib`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// Deepest folder: as many as a path can have (`PATH_MAX`).
const DEEPEST: usize = 2_048;

/// Most names for one command.
const BATCH: usize = 256;

/// One run of cp: names in a folder, and the folder of the box that they go to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// The folder that they are in.
    pub(super) from: PathBuf,
    /// Their names.
    pub(super) names: Vec<OsString>,
    /// Where they go.
    pub(super) to: PathBuf,
}

impl Copy {
    /// Returns the arguments of cp: links and modes are kept, and what is there is replaced rather
    /// than written into, which a link would lead somewhere else.
    pub(super) fn args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["-a", "--remove-destination", "--"].map(Into::into).into();
        args.extend(self.names.iter().map(|name| self.from.join(name).into()));
        args.push(self.to.join(".").into());
        args
    }

    /// Gives what was copied to root.
    pub(super) fn give_to_root(&self) -> io::Result<()> {
        self.names
            .iter()
            .try_for_each(|name| give_to_root(&self.to.join(name)))
    }
}

/// Plans the copies of the folder `from` over `to`: whole subtrees where the box has nothing.
pub(super) fn plan(from: &Path, to: &Path) -> io::Result<Vec<Copy>> {
    let mut copies = Vec::new();
    let mut open = vec![(from.to_owned(), to.to_owned(), 0)];
    while let Some((from, to, depth)) = open.pop() {
        if depth > DEEPEST {
            return Err(io::Error::other("its folders are nested too deep"));
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            // Through a link of the box, but not one of the description.
            if entry.file_type()?.is_dir() && to.join(entry.file_name()).is_dir() {
                let name = entry.file_name();
                open.push((from.join(&name), to.join(&name), depth + 1));
            } else {
                names.push(entry.file_name());
            }
        }
        names.sort();
        copies.extend(names.chunks(BATCH).map(|names| Copy {
            from: from.clone(),
            names: names.to_vec(),
            to: to.clone(),
        }));
    }
    Ok(copies)
}

/// Gives a file, or a folder with all that is in it, to root.
fn give_to_root(path: &Path) -> io::Result<()> {
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if (metadata.uid(), metadata.gid()) != (0, 0) {
            lchown(&path, Some(0), Some(0))?;
            // The kernel takes the set-id bits away with the owner (chown(2)).
            if !metadata.is_symlink() && metadata.mode() & 0o6000 != 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
            }
        }
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    /// `cp` ended with "cannot overwrite non-directory '/lib' with directory".
    #[test]
    fn the_boxs_links_and_folders_stay() {
        let root =
            std::env::temp_dir().join(format!("boxbuild-test-boxroot-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write("box/usr/lib/old", "old");
        write("box/etc/real", "real");
        symlink("usr/lib", root.join("box/lib")).expect("a link");
        symlink("real", root.join("box/etc/linked")).expect("a link");
        write("from/lib/new", "new");
        write("from/lib/sub/.hidden", "hidden");
        write("from/etc/linked", "own");
        write("from/-n", "dash");
        fs::set_permissions(root.join("box/etc"), fs::Permissions::from_mode(0o700)).expect("mode");
        fs::set_permissions(root.join("from/etc"), fs::Permissions::from_mode(0o777))
            .expect("mode");
        let as_root = nix::unistd::geteuid().is_root();
        if as_root {
            for name in ["from/lib/new", "from/lib/sub", "from/lib/sub/.hidden"] {
                lchown(root.join(name), Some(1000), Some(12345)).expect("an owner");
            }
            fs::set_permissions(
                root.join("from/lib/new"),
                fs::Permissions::from_mode(0o4755),
            )
            .expect("mode");
        }
        for copy in plan(&root.join("from"), &root.join("box")).expect("a plan") {
            let status = Command::new("cp").args(copy.args()).status().expect("cp");
            assert!(status.success(), "{copy:?}");
            if as_root {
                copy.give_to_root().expect("owners");
            }
        }
        let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file");
        assert_eq!(read("box/usr/lib/new"), "new");
        assert_eq!(read("box/usr/lib/sub/.hidden"), "hidden");
        assert_eq!(read("box/-n"), "dash");
        assert_eq!(
            fs::read_link(root.join("box/lib")).expect("a link"),
            Path::new("usr/lib")
        );
        // A file takes the place of a link, and what that leads to stays.
        assert_eq!(
            (read("box/etc/linked"), read("box/etc/real")),
            ("own".into(), "real".into())
        );
        let mode = |path: &str| fs::metadata(root.join(path)).expect("there").mode() & 0o7777;
        assert_eq!(mode("box/etc"), 0o700);
        if as_root {
            for name in ["usr/lib/new", "usr/lib/sub", "usr/lib/sub/.hidden"] {
                let metadata = fs::metadata(root.join("box").join(name)).expect("there");
                assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{name}");
            }
            assert_eq!(mode("box/usr/lib/new"), 0o4755);
        }
        fs::remove_dir_all(&root).expect("removed");
    }
}
