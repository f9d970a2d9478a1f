//! A root tree from archives: one, or the layers of a container image on top of each other.
//!
//! The archives are not unpacked here. Their entries are put together in memory, as names in one
//! tree, and written out as one archive in which each name occurs once, leads through folders
//! only, and begins in the tree. So whoever unpacks that archive cannot be led out of his folder:
//! no absolute name, no `..`, and nothing is written through a symbolic link.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tar::EntryType;

/// Names in a tree.
const MOST_NAMES: usize = 4_000_000;
/// Symbolic links that are followed for one name (as the kernel does, path_resolution(7)).
const MOST_LINKS: usize = 40;
/// Beginning of the names of whiteouts, and the name of an opaque one (OCI image specification,
/// layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// An archive is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is made of it cannot be written.
    #[error("cannot write the root tree")]
    Write(#[source] io::Error),
    /// An entry must not be there.
    #[error("{path} is refused: its entry '{entry}' {problem}")]
    Entry {
        /// The archive.
        path: PathBuf,
        /// Name in the archive.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Number of the layer, and of the entry in it.
type Inode = (usize, usize);

/// A name's components, joined by `/`.
type Name = Vec<u8>;

#[derive(Debug, Clone)]
enum Kind {
    Folder,
    File,
    Link(Name),
    /// FIFOs.
    Other,
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    /// `None` for a folder that no entry describes.
    inode: Option<Inode>,
    /// The highest layer that has it.
    layer: usize,
}

/// A root tree, known by its names.
#[derive(Debug)]
pub(super) struct Tree {
    layers: Vec<PathBuf>,
    nodes: BTreeMap<Name, Node>,
}

impl Tree {
    /// Reads the names in `layers`, the lowest first. Whiteouts count if there are `whiteouts`.
    pub(super) fn read(layers: Vec<PathBuf>, whiteouts: bool) -> Result<Tree, LayerError> {
        let mut tree = Tree {
            layers,
            nodes: BTreeMap::new(),
        };
        for layer in 0..tree.layers.len() {
            let path = tree.layers[layer].clone();
            let mut archive = open(&path)?;
            let entries = archive.entries().map_err(read_error(&path))?;
            for (index, entry) in entries.enumerate() {
                let entry = entry.map_err(read_error(&path))?;
                let name = entry.path_bytes().into_owned();
                let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
                let kind = entry.header().entry_type();
                tree.add((layer, index), &name, kind, target, whiteouts)
                    .map_err(|problem| LayerError::Entry {
                        path: path.clone(),
                        entry: String::from_utf8_lossy(&name).escape_debug().to_string(),
                        problem,
                    })?;
            }
        }
        Ok(tree)
    }

    fn add(
        &mut self,
        inode: Inode,
        name: &[u8],
        kind: EntryType,
        target: Option<Vec<u8>>,
        whiteouts: bool,
    ) -> Result<(), &'static str> {
        if self.nodes.len() > MOST_NAMES {
            return Err("is one of too many");
        }
        let mut parts = parts(name)?;
        let Some(last) = parts.pop() else {
            return Ok(());
        };
        let parent = self.folder(&parts, inode.0)?;
        let name = join(&parent, last);
        if whiteouts && last == OPAQUE {
            self.remove_below(&parent, inode.0);
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT).filter(|_| whiteouts) {
            self.remove(&join(&parent, hidden), inode.0);
            return Ok(());
        }
        let node = |kind| Node {
            kind,
            inode: Some(inode),
            layer: inode.0,
        };
        let node = match kind {
            EntryType::Directory => {
                if let Some(old) = self.nodes.get_mut(&name)
                    && matches!(old.kind, Kind::Folder)
                {
                    old.inode = Some(inode);
                    old.layer = inode.0;
                    return Ok(());
                }
                node(Kind::Folder)
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => node(Kind::File),
            EntryType::Symlink => node(Kind::Link(target.ok_or("is a link to nothing")?)),
            EntryType::Link => {
                let target = target.ok_or("is a link to nothing")?;
                let mut parts = self::parts(&target)?;
                let last = parts.pop().ok_or("is a link to nothing")?;
                let parent = self.folder(&parts, inode.0)?;
                let linked = self.nodes.get(&join(&parent, last));
                let linked = linked.ok_or("is a link to something that is not there")?;
                if matches!(linked.kind, Kind::Folder) {
                    return Err("is a hard link to a folder");
                }
                Node {
                    layer: inode.0,
                    ..linked.clone()
                }
            }
            EntryType::Fifo => node(Kind::Other),
            // Device nodes are the kernel's to make; other kinds only describe the archive.
            _ => return Ok(()),
        };
        self.remove_below(&name, usize::MAX);
        self.nodes.insert(name, node);
        Ok(())
    }

    /// The folder that `parts` lead to, links followed inside of the tree. What is missing is made.
    fn folder(&mut self, parts: &[&[u8]], layer: usize) -> Result<Name, &'static str> {
        let mut todo: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let mut at = Name::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                // Only a link's target has them; the root's parent is the root.
                at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let name = join(&at, &part);
            match self.nodes.get(&name).map(|node| &node.kind) {
                Some(Kind::Folder) => at = name,
                Some(Kind::Link(target)) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err("lies behind too many symbolic links");
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    let words = target.split(|byte| *byte == b'/');
                    let words = words.filter(|word| !word.is_empty() && *word != b".");
                    let mut words: Vec<_> = words.map(<[u8]>::to_vec).collect();
                    words.reverse();
                    todo.extend(words);
                }
                Some(Kind::File | Kind::Other) => {
                    return Err("lies below something that is no folder");
                }
                None => {
                    let node = Node {
                        kind: Kind::Folder,
                        inode: None,
                        layer,
                    };
                    self.nodes.insert(name.clone(), node);
                    at = name;
                }
            }
        }
        Ok(at)
    }

    /// Removes a name and everything below it that is of a lower layer than `layer`.
    fn remove(&mut self, name: &Name, layer: usize) {
        self.remove_below(name, layer);
        if self.nodes.get(name).is_some_and(|node| node.layer < layer) {
            self.nodes.remove(name);
        }
    }

    fn remove_below(&mut self, name: &Name, layer: usize) {
        let (from, to) = if name.is_empty() {
            (Name::new(), vec![0xff])
        } else {
            (
                [name.as_slice(), b"/"].concat(),
                [name.as_slice(), b"0"].concat(),
            )
        };
        let below: Vec<Name> = self
            .nodes
            .range(from..to)
            .filter(|(_, node)| node.layer < layer)
            .map(|(name, _)| name.clone())
            .collect();
        for name in below {
            self.nodes.remove(&name);
        }
    }

    /// Names of plain files.
    pub(super) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.nodes
            .iter()
            .filter(|(_, node)| matches!(node.kind, Kind::File))
            .map(|(name, _)| name.as_slice())
    }

    /// Writes the tree as one archive, and copies of the files in `copies`.
    pub(super) fn write(
        &self,
        out: impl Write,
        copies: &[(&[u8], &Path)],
    ) -> Result<(), LayerError> {
        let mut names: HashMap<Inode, Vec<&Name>> = HashMap::new();
        for (name, node) in &self.nodes {
            if let Some(inode) = node.inode {
                names.entry(inode).or_default().push(name);
            }
        }
        let mut builder = tar::Builder::new(out);
        builder.mode(tar::HeaderMode::Complete);
        for (layer, path) in self.layers.iter().enumerate() {
            let mut archive = open(path)?;
            for (index, entry) in archive.entries().map_err(read_error(path))?.enumerate() {
                let mut entry = entry.map_err(read_error(path))?;
                if let Some(names) = names.get(&(layer, index)) {
                    append(&mut builder, &mut entry, names, copies)?;
                }
            }
        }
        builder.finish().map_err(LayerError::Write)
    }
}

/// Writes an entry under its first name, and links to it for the others.
fn append(
    builder: &mut tar::Builder<impl Write>,
    entry: &mut tar::Entry<'_, impl Read>,
    names: &[&Name],
    copies: &[(&[u8], &Path)],
) -> Result<(), LayerError> {
    let write = LayerError::Write;
    let mut header = entry.header().clone();
    let attributes: Vec<(String, Vec<u8>)> = entry
        .pax_extensions()
        .ok()
        .flatten()
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|extension| {
            let key = extension.key().ok()?;
            key.starts_with("SCHILY.xattr.")
                .then(|| (key.to_owned(), extension.value_bytes().to_vec()))
        })
        .collect();
    let attributes = attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    builder.append_pax_extensions(attributes).map_err(write)?;
    let first = path(names[0]);
    if let Some(target) = entry.link_name_bytes().map(std::borrow::Cow::into_owned) {
        builder
            .append_link(&mut header, first, path(&target))
            .map_err(write)?;
    } else {
        let size = entry.size();
        header.set_size(size);
        if header.entry_type() == EntryType::GNUSparse {
            header.set_entry_type(EntryType::Regular);
        }
        let copy = copies
            .iter()
            .find(|(wanted, _)| names.iter().any(|name| name.as_slice() == *wanted));
        match copy {
            None => builder
                .append_data(&mut header, first, entry)
                .map_err(write)?,
            Some((_, to)) => {
                let mut file = File::create(to).map_err(write)?;
                io::copy(entry, &mut file).map_err(write)?;
                let file = File::open(to).map_err(write)?;
                builder
                    .append_data(&mut header, first, file)
                    .map_err(write)?;
            }
        }
    }
    for name in &names[1..] {
        let mut header = header.clone();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        builder
            .append_link(&mut header, path(name), first)
            .map_err(write)?;
    }
    Ok(())
}

fn path(name: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(name))
}

/// The components of a name in an archive.
fn parts(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.contains(&0) {
        return Err("has a NUL byte in its name");
    }
    let parts: Vec<&[u8]> = name
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.iter().any(|part| *part == b"..") {
        return Err("has '..' in its name");
    }
    Ok(parts)
}

fn join(parent: &[u8], name: &[u8]) -> Name {
    if parent.is_empty() {
        name.to_vec()
    } else {
        [parent, b"/", name].concat()
    }
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> LayerError {
    let path = path.to_owned();
    move |source| LayerError::Read { path, source }
}

/// An archive, whatever it is compressed with.
fn open(path: &Path) -> Result<tar::Archive<Box<dyn Read>>, LayerError> {
    reader(path)
        .map(tar::Archive::new)
        .map_err(read_error(path))
}

fn reader(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let magic = io::BufRead::fill_buf(&mut file)?;
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if magic.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else if magic.starts_with(b"BZh") {
        return Err(io::Error::other(
            "it is compressed with bzip2: unpack it first, or use gzip, xz or zstd",
        ));
    } else {
        Box::new(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIR: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;
    const SYMLINK: EntryType = EntryType::Symlink;
    const LINK: EntryType = EntryType::Link;

    fn layer(dir: &Path, name: &str, entries: &[(&str, EntryType, &str)]) -> PathBuf {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            let data = if matches!(*kind, SYMLINK | LINK) {
                header.as_gnu_mut().unwrap().linkname[..content.len()]
                    .copy_from_slice(content.as_bytes());
                ""
            } else {
                content
            };
            header.set_size(data.len() as u64);
            // As written, also what a careful library refuses.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        let path = dir.join(name);
        std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
        path
    }

    /// Names, kinds and contents of the tree that layers make.
    fn merged(layers: &[&[(&str, EntryType, &str)]]) -> Result<Vec<String>, LayerError> {
        let dir = tempfile::tempdir().unwrap();
        let paths = layers
            .iter()
            .enumerate()
            .map(|(number, entries)| layer(dir.path(), &number.to_string(), entries))
            .collect();
        let tree = Tree::read(paths, true)?;
        let mut bytes = Vec::new();
        tree.write(&mut bytes, &[])?;
        let mut listed = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            if let Some(target) = entry.link_name_bytes() {
                content = format!("-> {}", String::from_utf8_lossy(&target));
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            listed.push(format!("{name} {content}"));
        }
        listed.sort();
        Ok(listed)
    }

    #[test]
    fn layers_on_top_of_each_other() {
        let base: &[_] = &[
            ("./", DIR, ""),
            ("usr/", DIR, ""),
            ("usr/lib/", DIR, ""),
            ("lib", SYMLINK, "usr/lib"),
            ("usr/lib/a", FILE, "old"),
            ("usr/lib/b", LINK, "lib/a"),
            ("gone/x", FILE, "x"),
            ("opaque/y", FILE, "y"),
        ];
        let top: &[_] = &[
            ("lib/a", FILE, "new"),
            (".wh.gone", FILE, ""),
            ("opaque/.wh..wh..opq", FILE, ""),
            ("opaque/z", FILE, "z"),
            ("dev/null", EntryType::Char, ""),
        ];
        assert_eq!(
            merged(&[base, top]).unwrap(),
            [
                "lib -> usr/lib",
                "opaque/z z",
                "usr ",
                "usr/lib ",
                "usr/lib/a new",
                // The old content lives on under its other name.
                "usr/lib/b old",
            ]
        );
    }

    #[test]
    fn nothing_leads_out_of_the_tree() {
        for bad in ["../x", "a/../../x", "/../x"] {
            let error = merged(&[&[(bad, FILE, "x")]]).unwrap_err().to_string();
            assert!(error.contains("'..'"), "{error}");
        }
        assert_eq!(merged(&[&[("/etc/x", FILE, "x")]]).unwrap(), ["etc/x x"]);
        // Through a link: inside of the tree.
        for target in ["/etc", "../../../etc", "/../etc"] {
            let listed = merged(&[&[("a", SYMLINK, target), ("a/x", FILE, "x")]]).unwrap();
            assert_eq!(listed, [format!("a -> {target}"), "etc/x x".to_owned()]);
        }
        let circle: &[_] = &[("a", SYMLINK, "b"), ("b", SYMLINK, "a"), ("a/x", FILE, "x")];
        assert!(merged(&[circle]).is_err());
        assert!(merged(&[&[("a", FILE, ""), ("a/x", FILE, "x")]]).is_err());
        assert!(merged(&[&[("a", LINK, "/etc/passwd")]]).is_err());
        assert!(merged(&[&[("a", LINK, "../../etc/passwd")]]).is_err());
        // What a folder becomes loses what was below it.
        let listed = merged(&[
            &[("a/x", FILE, "x")],
            &[("a", SYMLINK, "/b"), ("a/y", FILE, "y")],
        ]);
        assert_eq!(listed.unwrap(), ["a -> /b", "b/y y"]);
    }
}
