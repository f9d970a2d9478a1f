//! What is in the image description that a command line names.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_description::{BoxView, Inspection, Target, Wanted};

/// A name, and what it is.
pub(super) type Named = (String, String);

/// What options of a build can name in a description.
#[derive(Debug, Default, Clone)]
pub(super) struct InDescription {
    pub(super) profiles: Vec<Named>,
    pub(super) types: Vec<Named>,
    /// Files that kiwi can read.
    pub(super) files: Vec<Named>,
}

impl InDescription {
    /// Reads the description that `words` name, the words of a whole line; one that cannot be read has
    /// nothing in it.
    pub(super) fn of_line(words: &[OsString]) -> InDescription {
        let Some(folder) = folder(words) else {
            return InDescription::default();
        };
        let files = listed(&folder).unwrap_or_default();
        let mut found = InDescription {
            files: files.into_iter().map(without_help).collect(),
            ..InDescription::default()
        };
        let Ok(whole) = folder.canonicalize() else {
            return found;
        };
        let wanted = Wanted {
            kiwi_file: value_of("--kiwi-file", words),
            ..Wanted::default()
        };
        let inspection = Inspection::of(&BoxView::new(&whole, &folder, Vec::new()), &wanted);
        let Some(description) = inspection.ok().and_then(|found| found.description) else {
            return found;
        };
        let summary = description.summary(&Target::default());
        found.profiles = summary
            .profiles
            .into_iter()
            .filter(|profile| is_plain(&profile.name))
            .map(|profile| (profile.name, profile.description))
            .collect();
        let mut types: Vec<String> = summary.types.into_iter().map(|found| found.image).collect();
        types.sort();
        types.dedup();
        found.types = types
            .into_iter()
            .filter(|name| is_plain(name))
            .map(without_help)
            .collect();
        found
    }
}

fn without_help(name: String) -> Named {
    (name, String::new())
}

/// Whether a name can be a word of a command line.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_control)
}

/// Returns the folder of the description: of a build, or of `info` and `check`.
fn folder(words: &[OsString]) -> Option<PathBuf> {
    value_of("--description", words).or_else(|| {
        let (first, rest) = words.split_first()?;
        let looks = first == "info" || first == "check";
        let folder = rest.iter().map(Path::new).find(|word| word.is_dir());
        folder.filter(|_| looks).map(Path::to_owned)
    })
}

/// Returns the value of an option, wherever it stands.
fn value_of(option: &str, words: &[OsString]) -> Option<PathBuf> {
    let assignment = format!("{option}=");
    words.iter().enumerate().find_map(|(number, word)| {
        if word == OsStr::new(option) {
            return words.get(number + 1).map(PathBuf::from);
        }
        let value = word.to_str()?.strip_prefix(&assignment)?;
        Some(PathBuf::from(value))
    })
}

fn listed(folder: &Path) -> Option<Vec<String>> {
    let entries = fs::read_dir(folder).ok()?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            [".kiwi", ".xml", ".yml", ".yaml"]
                .iter()
                .any(|end| name.ends_with(end))
        })
        .collect();
    names.sort();
    Some(names)
}
