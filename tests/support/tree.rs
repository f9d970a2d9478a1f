//! Root file systems, put together from files of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use boxbuild_firmware::cpio::Archive;

use crate::command::command;
use crate::foreign::{self, Libraries};

/// Folders that a merged `/usr` has links to: `/usr/lib` and `/lib` are one.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// A tree of files with absolute paths.
#[derive(Debug, Default)]
pub struct Tree {
    usr: Usr,
    /// By their paths without the leading slash.
    nodes: BTreeMap<String, Node>,
    /// Of programs that are not the host's.
    foreign: Option<Libraries>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Usr {
    #[default]
    Separate,
    /// `/usr/{bin,sbin,lib,lib64}` are links to the folders of the same name in `/`.
    Merged,
}

#[derive(Debug)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, content: Content },
    Link { target: String },
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// Of a file of the host.
    Of(PathBuf),
}

impl Tree {
    /// A tree in which `/usr/{bin,sbin,lib,lib64}` are links to the folders of the same name in `/`.
    pub fn merged() -> Tree {
        let mut tree = Tree {
            usr: Usr::Merged,
            ..Tree::default()
        };
        for folder in MERGED {
            tree.directory(&format!("/{folder}"), 0o755);
            let node = Node::Link {
                target: format!("../{folder}"),
            };
            tree.nodes.insert(format!("usr/{folder}"), node);
        }
        tree
    }

    /// Takes the libraries of another architecture's programs from there.
    pub fn with_foreign_libraries(&mut self, libraries: Libraries) {
        self.foreign = Some(libraries);
    }

    /// Adds a folder.
    pub fn directory(&mut self, path: &str, mode: u32) {
        self.nodes.insert(self.key(path), Node::Directory { mode });
    }

    /// Adds folders that all can read.
    pub fn directories(&mut self, paths: &[&str]) {
        for path in paths {
            self.directory(path, 0o755);
        }
    }

    /// Adds a file of these bytes.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        let content = Content::Bytes(bytes.into());
        self.nodes
            .insert(self.key(path), Node::File { mode, content });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        let target = target.to_owned();
        self.nodes.insert(self.key(path), Node::Link { target });
    }

    /// Adds busybox, and a link to it for each of its applets, to `/bin`.
    pub fn busybox(&mut self, busybox: &Path, applets: &[String]) {
        self.copy(busybox, "/bin/busybox", 0o755);
        for applet in applets.iter().filter(|applet| *applet != "busybox") {
            self.link(&format!("/bin/{applet}"), "busybox");
        }
    }

    /// Whether there is a file, folder or link of this path.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(&self.key(path))
    }

    /// Adds a file of the host without its libraries; links are followed.
    pub fn copy(&mut self, from: &Path, path: &str, mode: u32) {
        let content = Content::Of(from.to_owned());
        self.nodes
            .insert(self.key(path), Node::File { mode, content });
    }

    /// Adds a file or folder of the host, readable for all, and the shared libraries of the
    /// programs in it. Links in a folder stay links.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn put(&mut self, from: &Path, path: &str) -> Result<()> {
        let metadata =
            fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = readable(metadata.permissions().mode());
        if metadata.is_dir() {
            return self.put_folder(from, path, mode);
        }
        if !metadata.is_file() {
            bail!("{}: neither a file nor a folder", from.display());
        }
        self.copy(from, path, mode);
        if mode & 0o100 == 0 {
            return Ok(());
        }
        match (foreign::machine(from)?, &self.foreign) {
            (Some(machine), Some(libraries)) if machine == libraries.machine => {
                for (path, library) in libraries.of(from)? {
                    if !self.contains(&path) {
                        self.copy(&library, &path, 0o755);
                    }
                }
                Ok(())
            }
            (Some(_), _) => self.libraries(from),
            (None, _) => Ok(()),
        }
    }

    fn put_folder(&mut self, from: &Path, path: &str, mode: u32) -> Result<()> {
        if !self.contains(path) {
            self.directory(path, mode);
        }
        let entries =
            fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
        for entry in entries {
            let entry = entry?;
            let inside = format!("{path}/{}", text(Path::new(&entry.file_name()))?);
            if entry.file_type()?.is_symlink() {
                let target = fs::read_link(entry.path())?;
                self.link(&inside, text(&target)?);
            } else {
                self.put(&entry.path(), &inside)?;
            }
        }
        Ok(())
    }

    /// Adds the shared libraries of a program, at the host's paths.
    ///
    /// # Errors
    /// If ldd cannot be run.
    pub fn libraries(&mut self, program: &Path) -> Result<()> {
        // A program that is static, or of another architecture, has none.
        let output = command("ldd").arg(program).output().context("ldd")?;
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            if !self.contains(&library) {
                self.copy(Path::new(&library), &library, 0o755);
            }
        }
        Ok(())
    }

    /// Writes the tree as initial ramdisk: the same files make the same bytes.
    ///
    /// # Errors
    /// If a file cannot be read or the archive not be written.
    pub fn write(&self, to: &mut impl Write) -> Result<()> {
        let folder = Node::Directory { mode: 0o755 };
        let mut nodes: BTreeMap<&str, &Node> = self
            .missing_folders()
            .into_iter()
            .map(|path| (path, &folder))
            .collect();
        nodes.extend(self.nodes.iter().map(|(path, node)| (path.as_str(), node)));
        to.write_all(&Archive::new().directory(".", 0o755).finish())?;
        // An archive each: the kernel unpacks one after the other, and only one file at a time is in
        // memory here.
        for (path, node) in nodes {
            let mut archive = Archive::new();
            match node {
                Node::Directory { mode } => archive.directory(path, *mode),
                Node::Link { target } => archive.symlink(path, target),
                Node::File { mode, content } => archive.file(path, *mode, &content.read()?),
            };
            to.write_all(&archive.finish())?;
        }
        Ok(())
    }

    /// Makes the tree below a folder of the host.
    ///
    /// # Errors
    /// If a file cannot be read or made.
    pub fn make(&self, below: &Path) -> Result<()> {
        for (path, node) in &self.nodes {
            let path = below.join(path);
            let make = || -> Result<()> {
                if let Some(folder) = path.parent() {
                    fs::create_dir_all(folder)?;
                }
                match node {
                    Node::Directory { mode } => {
                        fs::create_dir_all(&path)?;
                        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                    }
                    Node::Link { target } => symlink(target, &path)?,
                    Node::File { mode, content } => {
                        fs::write(&path, content.read()?)?;
                        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                    }
                }
                Ok(())
            };
            make().with_context(|| format!("cannot make {}", path.display()))?;
        }
        Ok(())
    }

    fn key(&self, path: &str) -> String {
        normalized(path, self.usr)
    }

    /// Folders that files are in, and that are not in the tree themselves.
    fn missing_folders(&self) -> BTreeSet<&str> {
        let parents = self.nodes.keys().flat_map(|path| {
            path.match_indices('/')
                .map(|(slash, _)| &path[..slash])
                .collect::<Vec<_>>()
        });
        parents
            .filter(|parent| !self.nodes.contains_key(*parent))
            .collect()
    }
}

impl Content {
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.clone()),
            Content::Of(path) => {
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            }
        }
    }
}

/// A path without `.`, `..` and the leading slash.
fn normalized(path: &str, usr: Usr) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => parts.extend(name.to_str()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if usr == Usr::Merged && parts.len() > 2 && parts[0] == "usr" && MERGED.contains(&parts[1]) {
        parts.remove(0);
    }
    parts.join("/")
}

/// A path as text.
///
/// # Errors
/// If it is not UTF-8.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{}: a name that is not UTF-8", path.display()))
}

/// The mode plus permission for all to read, and to execute if anyone may.
fn readable(mode: u32) -> u32 {
    let run = if mode & 0o111 == 0 { 0 } else { 0o111 };
    mode & 0o7777 | 0o444 | run
}

/// The paths in the output of ldd: `NAME => PATH (ADDRESS)`, or the loader's `PATH (ADDRESS)`.
fn libraries(ldd: &str) -> BTreeSet<String> {
    ldd.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usr_is_merged() {
        let merged = |path| normalized(path, Usr::Merged);
        assert_eq!(merged("/usr/lib/../bin/env"), "bin/env");
        assert_eq!(merged("/usr/lib"), "usr/lib");
        assert_eq!(merged("/usr/share/x"), "usr/share/x");
        assert_eq!(normalized("/../usr/./bin/b", Usr::Separate), "usr/bin/b");
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00)\n\tlibc.so.6 => /lib/libc.so.6 (0x01)\n\
                    \t/lib64/ld.so (0x02)\n\tlibx.so => not found\n";
        let found: Vec<String> = libraries(text).into_iter().collect();
        assert_eq!(found, ["/lib/libc.so.6", "/lib64/ld.so"]);
    }

    #[test]
    fn a_tree_has_its_folders_files_and_links() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("data"), "of the host").unwrap();
        symlink("data", folder.path().join("link")).unwrap();
        let mut tree = Tree::merged();
        tree.put(folder.path(), "/srv/data").unwrap();
        tree.file("/usr/lib/x", 0o644, "x");
        assert!(tree.contains("/lib/x") && !tree.contains("/srv"));

        let made = folder.path().join("made");
        tree.make(&made).unwrap();
        assert_eq!(fs::read_to_string(made.join("usr/lib/x")).unwrap(), "x");
        let link = fs::read_link(made.join("srv/data/link")).unwrap();
        assert_eq!(link, Path::new("data"));

        let mut archive = Vec::new();
        tree.write(&mut archive).unwrap();
        let parts = boxbuild_firmware::initrd::unpack(&archive);
        assert!(parts.is_ok());
    }
}
