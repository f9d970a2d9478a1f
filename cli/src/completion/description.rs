//! What is in the image description that a command line names.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_host::input;

/// Returns the names of the profiles of the description that `words` name.
pub(super) fn profiles(words: &[OsString]) -> Vec<String> {
    let Some(folder) = value_of("--description", words) else {
        return Vec::new();
    };
    let file = value_of("--kiwi-file", words);
    let mut names = file
        .map(|file| folder.join(file))
        .or_else(|| first_file(&folder))
        .and_then(|file| input::read_text(&file).ok())
        .map(|text| names_in(&text))
        .unwrap_or_default();
    names.sort();
    names.dedup();
    names
}

/// Returns the files in the description that kiwi can read.
pub(super) fn files(words: &[OsString]) -> Vec<String> {
    let folder = value_of("--description", words);
    let entries = folder.and_then(|folder| listed(&folder));
    entries.unwrap_or_default()
}

/// Returns the value of an option, wherever it stands.
fn value_of(option: &str, words: &[OsString]) -> Option<PathBuf> {
    let assignment = format!("{option}=");
    words.iter().enumerate().find_map(|(number, word)| {
        if word == option {
            return words.get(number + 1).map(PathBuf::from);
        }
        let value = word.to_str()?.strip_prefix(&assignment)?;
        Some(PathBuf::from(value))
    })
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let config = folder.join("config.xml");
    if config.is_file() {
        return Some(config);
    }
    let names = listed(folder)?;
    let first = names.iter().find(|name| name.ends_with(".kiwi"))?;
    Some(folder.join(first))
}

#[expect(clippy::disallowed_methods, reason = "the user names the folder")]
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

/// Returns the values of `name` in all elements `<profile …>`.
fn names_in(xml: &str) -> Vec<String> {
    xml.split("<profile")
        .skip(1)
        // Not <profiles>.
        .filter(|rest| rest.starts_with(char::is_whitespace))
        .filter_map(|rest| {
            let element = rest.split('>').next()?;
            let value = element.split_once("name")?.1.trim_start();
            let value = value.strip_prefix('=')?.trim_start();
            let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
            let name = value[1..].split(quote).next()?;
            let good = !name.is_empty() && name.chars().all(|c| !c.is_control());
            good.then(|| name.to_owned())
        })
        .collect()
}
