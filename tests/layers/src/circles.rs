//! Arrows between the files of a crate, and the circles that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use crate::modules::{MentionKind, Module, Tree};
use crate::resolve::Target;

/// The files of a crate and what each names of the others.
#[derive(Debug, Clone)]
pub struct Arrows {
    files: Vec<PathBuf>,
    /// For each file, those of its module's ancestors and its own, the root first.
    chains: Vec<Vec<usize>>,
    arrows: BTreeMap<Ends, Arrow>,
}

/// From the first file to the second.
type Ends = (usize, usize);

#[derive(Debug, Clone, Default)]
struct Arrow {
    /// Each name once, with the first line that uses it.
    names: BTreeMap<String, usize>,
    /// Whether one of them is named by a `use` or a path from `crate`, `self` or `super`.
    anchored: bool,
}

/// Files or modules that lead to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// What it is a circle of.
    pub kind: CircleKind,
    /// Two or more files. That of a module stands for all below it.
    pub members: Vec<PathBuf>,
    /// One line for each arrow, with its place and the names.
    pub arrows: Vec<String>,
}

/// The two rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircleKind {
    /// Modules with the same parent name each other.
    Siblings,
    /// Files import each other.
    Imports,
}

impl Arrows {
    /// Finds all arrows of a crate.
    pub fn of(tree: &Tree) -> Self {
        let mut found = Self {
            files: tree.files.clone(),
            chains: (0..tree.files.len())
                .map(|file| chain(tree, file))
                .collect(),
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
                    if file != module.file {
                        let mut name = mention.path.last().cloned().unwrap_or_default();
                        if mention.kind == MentionKind::Glob {
                            name.push_str("::*");
                        }
                        let arrow = found.arrows.entry((module.file, file)).or_default();
                        arrow.anchored |= mention.kind != MentionKind::Code
                            || matches!(mention.path[0].as_str(), "crate" | "self" | "super");
                        let line = arrow.names.entry(name).or_insert(mention.line);
                        *line = mention.line.min(*line);
                    }
                }
            }
        }
        found
    }

    /// Returns the circles of both kinds; an arrow is part of one of them at most. Paths are shown
    /// relative to `root`.
    pub fn circles(&self, root: &Path) -> Vec<Circle> {
        // By the module whose children they are: which child leads to which, and by what arrows.
        let mut levels: BTreeMap<usize, BTreeMap<Ends, Vec<Ends>>> = BTreeMap::new();
        for &(from, to) in self.arrows.keys() {
            let (a, b) = (&self.chains[from], &self.chains[to]);
            let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            if let (Some(above), Some(&a), Some(&b)) =
                (common.checked_sub(1), a.get(common), b.get(common))
            {
                let level = levels.entry(self.chains[from][above]).or_default();
                level.entry((a, b)).or_default().push((from, to));
            }
        }
        let mut circles = Vec::new();
        let mut used = BTreeSet::new();
        for level in levels.values() {
            for members in components(level.keys().copied()) {
                let inside = level
                    .iter()
                    .filter(|((a, b), _)| members.contains(a) && members.contains(b));
                let arrows: BTreeSet<_> = inside.flat_map(|(_, arrows)| arrows).copied().collect();
                circles.push(self.circle(CircleKind::Siblings, &members, &arrows, root));
                used.extend(arrows);
            }
        }
        let imports: BTreeSet<_> = self
            .arrows
            .iter()
            .filter(|(ends, arrow)| arrow.anchored && !used.contains(ends))
            .map(|(ends, _)| *ends)
            .collect();
        for members in components(imports.iter().copied()) {
            let inside = |(a, b): &&Ends| members.contains(a) && members.contains(b);
            let arrows = imports.iter().filter(inside).copied().collect();
            circles.push(self.circle(CircleKind::Imports, &members, &arrows, root));
        }
        circles
    }

    fn circle(
        &self,
        kind: CircleKind,
        members: &BTreeSet<usize>,
        arrows: &BTreeSet<Ends>,
        root: &Path,
    ) -> Circle {
        let short = |file: usize| {
            let path = &self.files[file];
            path.strip_prefix(root).unwrap_or(path).to_owned()
        };
        let mut lines: Vec<String> = arrows
            .iter()
            .map(|ends| {
                let names = &self.arrows[ends].names;
                let first = names.values().min().copied().unwrap_or_default();
                let (from, to) = (short(ends.0), short(ends.1));
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
        lines.sort();
        let mut members: Vec<_> = members.iter().map(|file| short(*file)).collect();
        members.sort();
        Circle {
            kind,
            members,
            arrows: lines,
        }
    }
}

impl std::fmt::Display for Circle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.kind {
            CircleKind::Siblings => "modules side by side name each other",
            CircleKind::Imports => "files import each other",
        };
        write!(f, "{} {what} in a circle:", self.members.len())?;
        for member in &self.members {
            write!(f, " {}", member.display())?;
        }
        self.arrows
            .iter()
            .try_for_each(|arrow| write!(f, "\n    {arrow}"))
    }
}

/// Returns the files of a module's ancestors and its own, the root first.
fn chain(tree: &Tree, file: usize) -> Vec<usize> {
    let mut files = Vec::new();
    let mut module = tree.modules.iter().position(|module| module.file == file);
    while let Some(index) = module {
        let Module { file, parent, .. } = &tree.modules[index];
        if files.last() != Some(file) {
            files.push(*file);
        }
        module = *parent;
    }
    files.reverse();
    files
}

/// Returns the sets of two or more nodes that lead to each other.
fn components(edges: impl Iterator<Item = Ends>) -> Vec<BTreeSet<usize>> {
    let mut graph = DiGraph::<usize, ()>::new();
    let mut nodes = BTreeMap::new();
    for (from, to) in edges {
        let from = *nodes.entry(from).or_insert_with(|| graph.add_node(from));
        let to = *nodes.entry(to).or_insert_with(|| graph.add_node(to));
        graph.add_edge(from, to, ());
    }
    let mut found: Vec<BTreeSet<usize>> = tarjan_scc(&graph)
        .into_iter()
        .filter(|component| component.len() > 1)
        .map(|component| component.into_iter().map(|node| graph[node]).collect())
        .collect();
    found.sort();
    found
}
