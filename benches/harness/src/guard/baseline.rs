//! The committed counts, and how new ones compare.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::environment::Versions;

/// So much more, in percent, and the guard fails.
pub const LIMIT: f64 = 3.0;

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;

/// Counts with what they depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Programs, versions.
    pub environment: Versions,
    /// The counts.
    pub counts: Counts,
}

/// The committed file: parts by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline(BTreeMap<String, Counted>);

impl Baseline {
    /// Reads the file; one that is not there is empty.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Baseline> {
        match fs::read(path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is not a baseline", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Baseline::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If that fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A part of it.
    pub fn get(&self, part: &str) -> Option<&Counted> {
        self.0.get(part)
    }

    /// Replaces a part.
    pub fn set(&mut self, part: &str, environment: Versions, counts: Counts) {
        let counted = Counted {
            environment,
            counts,
        };
        self.0.insert(part.to_owned(), counted);
    }
}

/// One count, then and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What was counted.
    pub name: String,
    /// In the baseline, if it is there.
    pub before: Option<u64>,
    /// Now, if it still exists.
    pub now: Option<u64>,
}

impl Change {
    /// How much more it is now, in percent.
    pub fn percent(&self) -> Option<f64> {
        let (before, now) = (self.before? as f64, self.now? as f64);
        Some((now - before) / before * 100.0)
    }

    /// Worse than the limit, or not comparable at all.
    pub fn fails(&self) -> bool {
        self.percent().is_none_or(|percent| percent > LIMIT)
    }

    /// Better by more than the limit: the baseline should know.
    pub fn gains(&self) -> bool {
        self.percent().is_some_and(|percent| percent < -LIMIT)
    }
}

/// How a part compares with the baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Everything that was counted, now or in the baseline.
    pub changes: Vec<Change>,
    /// Differences of what the counts depend on: "rustc 1.95.0, the baseline has 1.96.0". If there is any,
    /// the counts do not compare.
    pub differences: Vec<String>,
}

impl Judgement {
    /// Whether the guard fails.
    pub fn fails(&self) -> bool {
        self.differences.is_empty() && self.changes.iter().any(Change::fails)
    }
}

/// Compares with the baseline.
pub fn judge(baseline: &Counted, environment: &Versions, counts: &Counts) -> Judgement {
    fn names<'a, V>(
        one: &'a BTreeMap<String, V>,
        other: &'a BTreeMap<String, V>,
    ) -> impl Iterator<Item = &'a String> {
        let new = other.keys().filter(|name| !one.contains_key(*name));
        one.keys().chain(new)
    }
    let differences = names(&baseline.environment, environment).filter_map(|name| {
        let of = |versions: &Versions| versions.get(name).cloned().unwrap_or_default();
        let (before, now) = (of(&baseline.environment), of(environment));
        (before != now).then(|| format!("{name} is {now:?}, the baseline has {before:?}"))
    });
    let changes = names(&baseline.counts, counts).map(|name| Change {
        name: name.clone(),
        before: baseline.counts.get(name).copied(),
        now: counts.get(name).copied(),
    });
    Judgement {
        changes: changes.collect(),
        differences: differences.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(version: &str, counts: &[(&str, u64)]) -> Counted {
        Counted {
            environment: [(String::from("rustc"), version.to_owned())].into(),
            counts: counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        }
    }

    fn verdict(before: &Counted, now: &Counted) -> Judgement {
        judge(before, &now.environment, &now.counts)
    }

    #[test]
    fn three_percent_more_fails() {
        let before = counted("1", &[("a", 1000), ("b", 1000)]);
        assert!(!verdict(&before, &before).fails());
        assert!(!verdict(&before, &counted("1", &[("a", 1030), ("b", 10)])).fails());
        let worse = verdict(&before, &counted("1", &[("a", 1031), ("b", 10)]));
        assert!(worse.fails());
        assert!(worse.changes[0].fails() && worse.changes[1].gains());
    }

    #[test]
    fn another_compiler_is_reported_and_does_not_fail() {
        let before = counted("1", &[("a", 1000)]);
        let judged = verdict(&before, &counted("2", &[("a", 2000)]));
        assert!(!judged.fails());
        assert_eq!(
            judged.differences,
            ["rustc is \"2\", the baseline has \"1\""]
        );
        assert_eq!(judged.changes[0].percent(), Some(100.0));
    }

    #[test]
    fn what_only_one_of_them_has_fails() {
        let before = counted("1", &[("a", 1)]);
        assert!(verdict(&before, &counted("1", &[("a", 1), ("b", 1)])).fails());
        assert!(verdict(&before, &counted("1", &[])).fails());
    }

    #[test]
    fn a_file_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baseline.json");
        let mut baseline = Baseline::read(&path).unwrap();
        assert_eq!(baseline.get("paths"), None);
        let some = counted("1", &[("a", 1)]);
        baseline.set("paths", some.environment.clone(), some.counts.clone());
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap().get("paths"), Some(&some));
        fs::write(&path, "nonsense").unwrap();
        assert!(Baseline::read(&path).is_err());
    }
}
