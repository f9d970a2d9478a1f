//! The distribution's sshd, for the `boxroot/` of a description that is built in a small box:
//! programs, their libraries, and the users they want. Needs no root and installs nothing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::command;
use crate::debian::{self, Apt};
use crate::interrupt::Unwind;
use crate::tree::Tree;

/// Which of them there are depends on the version. In the small box, `/usr/bin` is a link to `/bin`.
const PROGRAMS: [(&str, &str); 4] = [
    ("usr/sbin/sshd", "/usr/sbin/sshd"),
    (
        "usr/lib/openssh/sshd-session",
        "/usr/lib/openssh/sshd-session",
    ),
    ("usr/lib/openssh/sshd-auth", "/usr/lib/openssh/sshd-auth"),
    ("usr/bin/ssh-keygen", "/bin/ssh-keygen"),
];

/// Makes the folder, where it is not there yet. Returns why not, where the packages cannot be had.
///
/// # Errors
/// If files cannot be written.
pub fn make(folder: &Path) -> Result<Option<String>> {
    if folder.exists() {
        return Ok(None);
    }
    let folder = std::path::absolute(folder)?;
    let parent = folder.parent().context("not the root")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let _unwind = Unwind::begin()?;
    let work = tempfile::Builder::new()
        .prefix(".making.")
        .tempdir_in(parent)?;
    let packages = work.path().join("packages");
    let made = work.path().join("tree");
    if let Err(error) = unpack(work.path(), &packages) {
        return Ok(Some(format!("{error:#}").replace('\n', "; ")));
    }
    match tree(&packages)? {
        Err(missing) => return Ok(Some(missing)),
        Ok(tree) => make_in_place(&tree, &made)?,
    }
    fs::rename(&made, &folder)?;
    Ok(None)
}

fn unpack(work: &Path, packages: &Path) -> Result<()> {
    let apt = Apt::of_host();
    let mut names = apt.depends("openssh-server")?;
    names.retain(|name| name.starts_with("lib"));
    names.extend(["openssh-server", "openssh-client"].map(String::from));
    for package in apt.download(&names, work)? {
        debian::unpack(&package, packages)?;
    }
    Ok(())
}

fn make_in_place(tree: &Tree, folder: &Path) -> Result<()> {
    fs::create_dir(folder)?;
    tree.make(folder)
}

/// The tree, or which library the packages do not have.
fn tree(packages: &Path) -> Result<Result<Tree, String>> {
    let mut folders = Vec::new();
    library_folders(packages, &mut folders)?;
    let search: OsString = std::env::join_paths(&folders)?;
    let mut tree = Tree::default();
    tree.directories(&["/bin", "/etc/ssh", "/usr/sbin", "/usr/lib/openssh"]);
    for (from, to) in PROGRAMS {
        let from = packages.join(from);
        if !from.exists() {
            continue;
        }
        tree.copy(&from, to, 0o755);
        let output = command("ldd")
            .arg(&from)
            .env("LD_LIBRARY_PATH", &search)
            .output()?;
        let needed = String::from_utf8_lossy(&output.stdout).into_owned();
        if let Some(missing) = needed.lines().find(|line| line.contains("not found")) {
            return Ok(Err(missing.trim().to_owned()));
        }
        for (path, to) in libraries(&needed) {
            tree.copy(Path::new(path), &to, 0o755);
        }
    }
    tree.file(
        "/etc/passwd",
        0o644,
        "root:x:0:0::/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/bin/false\n",
    );
    tree.file("/etc/shadow", 0o644, "root:*:20000:0:99999:7:::\n");
    tree.file("/etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n");
    Ok(Ok(tree))
}

/// Folders with shared libraries.
fn library_folders(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            library_folders(&entry.path(), found)?;
        } else if name.starts_with("lib")
            && name.contains(".so.")
            && !found.iter().any(|known| known == folder)
        {
            found.push(folder.to_owned());
        }
    }
    Ok(())
}

/// Libraries in the output of ldd, and where they go: `NAME => PATH (ADDRESS)` into `/lib`, the
/// loader's `PATH (ADDRESS)` where it is.
fn libraries(ldd: &str) -> Vec<(&str, String)> {
    let library = |line| {
        let words: Vec<&str> = str::split_whitespace(line).collect();
        match words[..] {
            [path, ..] if path.starts_with('/') => Some((path, path.to_owned())),
            [name, "=>", path, ..] => Some((path, format!("/lib/{name}"))),
            _ => None,
        }
    };
    ldd.lines().filter_map(library).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_go_to_one_folder_and_the_loader_stays() {
        let text = "\tlinux-vdso.so.1 (0x0)\n\tlibz.so.1 => /x/lib/libz.so.1 (0x1)\n\t/lib64/ld.so (0x2)\n";
        let found = libraries(text);
        assert_eq!(
            found[0],
            ("/x/lib/libz.so.1", String::from("/lib/libz.so.1"))
        );
        assert_eq!(found[1], ("/lib64/ld.so", String::from("/lib64/ld.so")));
        assert_eq!(found.len(), 2);
    }
}
