//! What a box has of what builds may need, looked up when the box is made.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// What a box has. What is not named here is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// Packages that the user had added (`--with`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    /// Programs that KIWI may call, and whether they are there.
    #[serde(default)]
    pub programs: BTreeMap<String, bool>,
    /// Modules of Python that KIWI may import, and whether they are there.
    #[serde(default)]
    pub modules: BTreeMap<String, bool>,
    /// Packages for images, in a repository in the box.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<LocalRepository>,
}

/// A repository in a box, with packages for images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRepository {
    /// Its folder in the box.
    pub path: String,
    /// Names of its packages, and those that they provide.
    pub packages: Vec<String>,
}

impl Inventory {
    /// Whether the box certainly has none of `names`.
    pub fn lacks(of: &BTreeMap<String, bool>, names: &[&str]) -> bool {
        names.iter().all(|name| of.get(*name) == Some(&false))
    }

    /// Returns what is there of `names`, of which `found` was found.
    pub(crate) fn of<'a>(
        names: impl IntoIterator<Item = &'a str>,
        found: &BTreeSet<&str>,
    ) -> BTreeMap<String, bool> {
        let entries = names.into_iter();
        entries
            .map(|name| (name.to_owned(), found.contains(name)))
            .collect()
    }
}
