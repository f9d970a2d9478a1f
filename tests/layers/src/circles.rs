//! Arrows between the files of a crate, and the circles that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::modules::{MentionKind, Tree};
use crate::resolve::Target;

/// The files of a crate and what each names of the others.
#[derive(Debug, Clone)]
pub struct Arrows {
    files: Vec<PathBuf>,
    /// From the first file to the second: each name once, with the first line that uses it.
    arrows: BTreeMap<(usize, usize), BTreeMap<String, usize>>,
}

/// Files that lead to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Two or more.
    pub files: Vec<PathBuf>,
    /// One line for each arrow between them, with its place and the names.
    pub arrows: Vec<String>,
}

impl Arrows {
    /// Finds all arrows of a crate.
    pub fn of(tree: &Tree) -> Self {
        let mut found = Self {
            files: tree.files.clone(),
            arrows: BTreeMap::new(),
        };
        for (index, module) in tree.modules.iter().enumerate() {
            for mention in &module.mentions {
                for target in tree.resolve(index, &mention.path) {
                    let file = match target {
                        Target::Item(file) => file,
                        Target::Module(of) if mention.kind == MentionKind::Glob => {
                            tree.modules[of].file
                        }
                        Target::Module(_) => continue,
                    };
                    let calls_child = mention.kind == MentionKind::Code
                        && !matches!(mention.path[0].as_str(), "crate" | "self" | "super")
                        && is_below(tree, file, module.file);
                    if file != module.file && !calls_child {
                        let mut name = mention.path.last().cloned().unwrap_or_default();
                        if mention.kind == MentionKind::Glob {
                            name.push_str("::*");
                        }
                        let names = found.arrows.entry((module.file, file)).or_default();
                        let line = names.entry(name).or_insert(mention.line);
                        *line = mention.line.min(*line);
                    }
                }
            }
        }
        found
    }

    /// Returns the circles, each with all of its files; paths are shown relative to `root`.
    pub fn circles(&self, root: &Path) -> Vec<Circle> {
        let mut graph = DiGraph::<usize, ()>::new();
        let nodes: Vec<_> = (0..self.files.len())
            .map(|file| graph.add_node(file))
            .collect();
        for (from, to) in self.arrows.keys() {
            graph.add_edge(nodes[*from], nodes[*to], ());
        }
        let mut circles: Vec<_> = tarjan_scc(&graph)
            .into_iter()
            .filter(|component| component.len() > 1)
            .map(|component| {
                self.circle(
                    &component.into_iter().map(|node| graph[node]).collect(),
                    root,
                )
            })
            .collect();
        circles.sort_by(|a, b| a.files.cmp(&b.files));
        circles
    }

    fn circle(&self, files: &BTreeSet<usize>, root: &Path) -> Circle {
        let short = |file: usize| {
            let path = &self.files[file];
            path.strip_prefix(root).unwrap_or(path).to_owned()
        };
        let inside =
            |((from, to), _): &(&(usize, usize), _)| files.contains(from) && files.contains(to);
        let mut arrows: Vec<String> = self
            .arrows
            .iter()
            .filter(inside)
            .map(|((from, to), names)| {
                let first = names.values().min().copied().unwrap_or_default();
                let (from, to) = (short(*from), short(*to));
                let mut text = format!("{}:{first} → {}:", from.display(), to.display());
                for (position, (name, line)) in names.iter().enumerate() {
                    let comma = if position == 0 { " " } else { ", " };
                    let _ = write!(text, "{comma}{name}");
                    if *line != first {
                        let _ = write!(text, " ({line})");
                    }
                }
                text
            })
            .collect();
        arrows.sort();
        let mut files: Vec<_> = files.iter().map(|file| short(*file)).collect();
        files.sort();
        Circle { files, arrows }
    }
}

impl std::fmt::Display for Circle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} files import each other in a circle:",
            self.files.len()
        )?;
        self.arrows
            .iter()
            .try_for_each(|arrow| write!(f, "\n    {arrow}"))
    }
}

/// Returns whether the module of a file is below that of another one.
fn is_below(tree: &Tree, file: usize, above: usize) -> bool {
    let mut module = tree.modules.iter().find(|module| module.file == file);
    while let Some(parent) = module.and_then(|module| module.parent) {
        if tree.modules[parent].file == above {
            return true;
        }
        module = Some(&tree.modules[parent]);
    }
    false
}
