//! From a path to the file that defines what it names.

use std::collections::BTreeSet;

use crate::modules::{Definition, Tree};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An item, by the index of its file.
    Item(usize),
    /// A module, by its index.
    Module(usize),
}

/// Names that are being looked up already: imports may lead back to themselves.
type Seen = BTreeSet<(usize, String)>;

impl Tree {
    /// Returns what `path`, written in `module`, leads to: nothing for another crate, a local
    /// variable or a type parameter. What a known module does not seem to define (a macro made it)
    /// counts as an item of its file.
    pub(crate) fn resolve(&self, module: usize, path: &[String]) -> Vec<Target> {
        self.resolve_path(module, path, &mut Seen::new())
            .unwrap_or_default()
    }

    /// `None`: the first name is not known at all.
    fn resolve_path(&self, module: usize, path: &[String], seen: &mut Seen) -> Option<Vec<Target>> {
        let mut rest = path;
        let mut start = None;
        while let Some((first, behind)) = rest.split_first() {
            start = match (first.as_str(), start) {
                ("crate", None) => Some(0),
                ("self", None) => Some(module),
                ("super", at) => Some(self.modules[at.unwrap_or(module)].parent?),
                _ => break,
            };
            rest = behind;
        }
        let mut here = if let Some(start) = start {
            vec![Target::Module(start)]
        } else {
            let (first, behind) = rest.split_first()?;
            rest = behind;
            self.look_up(module, first, seen)?
        };
        for name in rest {
            let mut next = Vec::new();
            for target in &here {
                if let Target::Module(module) = *target {
                    // A name that is known and leads nowhere belongs to another crate.
                    match self.look_up(module, name, seen) {
                        Some(found) => next.extend(found),
                        None => next.push(Target::Item(self.modules[module].file)),
                    }
                }
            }
            // Behind an item stands one of its own: a variant, an associated function.
            if here
                .iter()
                .any(|target| matches!(target, Target::Module(_)))
            {
                here = next;
            }
        }
        Some(here)
    }

    /// Returns what a name means in a module; empty if it belongs to another crate, `None` if the
    /// module does not have it.
    fn look_up(&self, module: usize, name: &str, seen: &mut Seen) -> Option<Vec<Target>> {
        let key = (module, name.to_owned());
        if !seen.insert(key.clone()) {
            // An import leads back to its own name: what the module itself defines is meant.
            let own = self.modules[module].names.get(name)?;
            return own.iter().find_map(|definition| match definition {
                Definition::Module(child) => Some(vec![Target::Module(*child)]),
                Definition::Item(_) | Definition::Import(_) => None,
            });
        }
        let found = self.look_up_new(module, name, seen);
        seen.remove(&key);
        found
    }

    fn look_up_new(&self, module: usize, name: &str, seen: &mut Seen) -> Option<Vec<Target>> {
        let own = self.modules[module].names.get(name).map(|definitions| {
            let mut targets = Vec::new();
            for definition in definitions {
                match definition {
                    Definition::Module(child) => targets.push(Target::Module(*child)),
                    Definition::Item(file) => targets.push(Target::Item(*file)),
                    Definition::Import(path) => {
                        targets.extend(self.resolve_path(module, path, seen).unwrap_or_default());
                    }
                }
            }
            targets
        });
        // Next to a module, a function of the same name may come through a glob.
        let shadows = |targets: &[Target]| !matches!(targets, [Target::Module(_)]);
        if own.as_deref().is_some_and(shadows) {
            return own;
        }
        let globs = &self.modules[module].globs;
        let through = globs.iter().find_map(|path| {
            let from = self.resolve_path(module, path, seen)?;
            from.into_iter().find_map(|target| match target {
                Target::Module(from) => self.look_up(from, name, seen),
                Target::Item(_) => None,
            })
        });
        match (own, through) {
            (Some(own), Some(through)) => Some([own, through].concat()),
            (own, through) => own.or(through),
        }
    }
}
