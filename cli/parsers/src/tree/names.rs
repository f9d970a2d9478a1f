//! A root tree from archives: one, or the layers of a container image on top of each other.
//!
//! The archives are not unpacked here. Their entries are put together in memory, as names in one
//! tree, and written out as one archive in which each name occurs once, leads through folders only,
//! and begins in the tree. Unpacking that archive cannot lead out of its folder: there is no
//! absolute name, no `..`, and nothing is written through a symbolic link.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use tar::EntryType;

use super::archive::{LayerError, append, open};
use super::kind::Kind;
use super::section::Section;

/// Limit for the memory of all names, in bytes: of some million names.
const MOST_MEMORY: usize = 512 << 20;
/// Memory of a name besides its own bytes, about: a node of the tree.
const NODE: usize = 160;
/// Limit for the names that are looked up: fifteen for each of four million names.
const MOST_WORK: u64 = 1 << 26;
/// Longest name, and longest component of one, in bytes (Linux, `PATH_MAX` and `NAME_MAX`).
const LONGEST_NAME: usize = 4096;
const LONGEST_PART: usize = 255;
/// Most components of a name.
const DEEPEST: usize = 256;
/// Most components that are left to follow, those of links' targets included.
const MAX_PENDING: usize = 10_000;
/// Symbolic links that are followed for one name (as the kernel does, path_resolution(7)).
const MOST_LINKS: usize = 40;
/// Beginning of the names of whiteouts, and the name of an opaque one (OCI image specification,
/// layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Number of the layer, and of the entry in it.
type Inode = (usize, usize);

/// The components of a name, joined by `/`.
type Name = Vec<u8>;

/// What a name stands for.
#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    /// The entry with its content; `None` for a folder that no entry describes.
    inode: Option<Inode>,
    /// The highest layer that has the name.
    layer: usize,
}

/// The names of a root tree, without their contents.
#[derive(Debug)]
pub(super) struct Tree {
    layers: Vec<Section>,
    nodes: BTreeMap<Name, Node>,
    /// Memory of the names, in bytes.
    memory: usize,
    /// Names that were looked up.
    work: u64,
}

impl Tree {
    /// Reads the names in the archives `layers`, the lowest first. With `whiteouts`, entries that
    /// remove names of lower layers are honoured.
    pub(super) fn read(layers: Vec<Section>, whiteouts: bool) -> Result<Tree, LayerError> {
        let mut tree = Tree {
            layers: Vec::new(),
            nodes: BTreeMap::new(),
            memory: 0,
            work: 0,
        };
        for (layer, section) in layers.iter().enumerate() {
            let mut read = || {
                open(section.clone())?.for_each(|index, entry| {
                    let name = entry.path_bytes().into_owned();
                    let target = entry.link_name_bytes().map(Cow::into_owned);
                    let kind = entry.header().entry_type();
                    tree.add((layer, index), &name, kind, target, whiteouts)
                        .map_err(|problem| {
                            let name = String::from_utf8_lossy(&name);
                            let entry = name.chars().take(200).collect::<String>();
                            LayerError::Entry {
                                entry: entry.escape_debug().to_string(),
                                problem,
                            }
                        })
                })
            };
            read().map_err(|error: LayerError| error.of_layer(layer))?;
        }
        tree.layers = layers;
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
        let mut parts = parts(name)?;
        let Some(last) = parts.pop() else {
            return Ok(());
        };
        let parent = self.folder(&parts, inode.0)?;
        let name = join(&parent, last);
        if whiteouts && last == OPAQUE {
            return self.remove_below(&parent, inode.0);
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT).filter(|_| whiteouts) {
            return self.remove(&join(&parent, hidden), inode.0);
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
            EntryType::Symlink => {
                let target = target.ok_or("is a link to nothing")?;
                if target.len() >= LONGEST_NAME {
                    return Err("is a link to a name that is too long");
                }
                node(Kind::Link(target))
            }
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
            EntryType::Fifo => node(Kind::Fifo),
            // Device nodes are the kernel's to make; other kinds only describe the archive.
            _ => return Ok(()),
        };
        self.remove_below(&name, usize::MAX)?;
        self.insert(name, node)
    }

    fn insert(&mut self, name: Name, node: Node) -> Result<(), &'static str> {
        self.look_up(1)?;
        let added = memory(&name, &node);
        // What it replaces is still counted: the limit is about the order of magnitude.
        self.memory = self.memory.saturating_add(added);
        if self.memory > MOST_MEMORY {
            return Err("is one of too many");
        }
        self.nodes.insert(name, node);
        Ok(())
    }

    /// Counts names that are looked up.
    fn look_up(&mut self, count: usize) -> Result<(), &'static str> {
        self.work += count as u64;
        if self.work > MOST_WORK {
            return Err("is one of too many");
        }
        Ok(())
    }

    /// Returns the name of the folder that `parts` lead to. Symbolic links are followed inside of the
    /// tree, and missing folders are added.
    fn folder(&mut self, parts: &[&[u8]], layer: usize) -> Result<Name, &'static str> {
        let mut pending: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let mut at = Name::new();
        let mut links = 0;
        while let Some(part) = pending.pop() {
            self.look_up(1)?;
            if part == b".." {
                // Only a link's target has them; the root's parent is the root.
                at.truncate(at.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                continue;
            }
            let name = join(&at, &part);
            if name.len() >= LONGEST_NAME {
                return Err("has a name that is too long");
            }
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
                    pending.extend(words);
                    if pending.len() > MAX_PENDING {
                        return Err("lies behind too many symbolic links");
                    }
                }
                Some(Kind::File | Kind::Fifo) => {
                    return Err("lies below something that is not a folder");
                }
                None => {
                    let node = Node {
                        kind: Kind::Folder,
                        inode: None,
                        layer,
                    };
                    self.insert(name.clone(), node)?;
                    at = name;
                }
            }
        }
        Ok(at)
    }

    /// Removes a name and everything below it that is of a lower layer than `layer`.
    fn remove(&mut self, name: &Name, layer: usize) -> Result<(), &'static str> {
        self.remove_below(name, layer)?;
        if self.nodes.get(name).is_some_and(|node| node.layer < layer) {
            self.forget(name);
        }
        Ok(())
    }

    fn forget(&mut self, name: &Name) {
        if let Some(node) = self.nodes.remove(name) {
            self.memory = self.memory.saturating_sub(memory(name, &node));
        }
    }

    /// Removes everything below a name that is of a lower layer than `layer`.
    fn remove_below(&mut self, name: &Name, layer: usize) -> Result<(), &'static str> {
        let (from, to) = if name.is_empty() {
            (Name::new(), vec![0xff])
        } else {
            (
                [name.as_slice(), b"/"].concat(),
                [name.as_slice(), b"0"].concat(),
            )
        };
        let mut below = Vec::new();
        let mut seen = 1;
        for (name, node) in self.nodes.range(from..to) {
            seen += 1;
            if node.layer < layer {
                below.push(name.clone());
            }
        }
        self.look_up(seen)?;
        for name in below {
            self.forget(&name);
        }
        Ok(())
    }

    /// Returns the names of regular files.
    pub(super) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.nodes
            .iter()
            .filter(|(_, node)| matches!(node.kind, Kind::File))
            .map(|(name, _)| name.as_slice())
    }

    /// Writes the tree as one archive, and the contents of the files that `copies` names to the places
    /// there as well.
    pub(super) fn write(
        &self,
        out: impl Write,
        copies: &mut [(Vec<u8>, &mut dyn Write)],
    ) -> Result<(), LayerError> {
        let mut names: HashMap<Inode, Vec<&Name>> = HashMap::new();
        for (name, node) in &self.nodes {
            if let Some(inode) = node.inode {
                names.entry(inode).or_default().push(name);
            }
        }
        let mut builder = tar::Builder::new(out);
        builder.mode(tar::HeaderMode::Complete);
        for (layer, section) in self.layers.iter().enumerate() {
            let mut read = || {
                open(section.clone())?.for_each(|index, entry| {
                    let Some(names) = names.get(&(layer, index)) else {
                        return Ok(());
                    };
                    let mut to: Vec<&mut dyn Write> = Vec::new();
                    for (name, writer) in copies.iter_mut() {
                        if names.contains(&&*name) {
                            to.push(*writer);
                        }
                    }
                    // All of them stand for the same file.
                    let Some(node) = names.first().and_then(|name| self.nodes.get(*name)) else {
                        return Ok(());
                    };
                    append(&mut builder, entry, &node.kind, names, &mut to)
                })
            };
            read().map_err(|error: LayerError| error.of_layer(layer))?;
        }
        builder.finish().map_err(LayerError::Write)
    }
}

/// Memory of a name, about.
fn memory(name: &Name, node: &Node) -> usize {
    let target = match &node.kind {
        Kind::Link(target) => target.len(),
        _ => 0,
    };
    NODE + name.len() + target
}

/// Returns the components of a name in an archive.
fn parts(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.len() >= LONGEST_NAME {
        return Err("has a name that is too long");
    }
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
    if parts.len() > DEEPEST || parts.iter().any(|part| part.len() > LONGEST_PART) {
        return Err("has a name that is too long");
    }
    Ok(parts)
}

/// Returns the name of `name` in the folder `parent`.
fn join(parent: &[u8], name: &[u8]) -> Name {
    if parent.is_empty() {
        name.to_vec()
    } else {
        [parent, b"/", name].concat()
    }
}
