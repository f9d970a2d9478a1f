//! Attacks: what a guest, or another user of the host, must not do to the host.
//!
//! Each attack runs from outside: a description's script as root in a machine, or in a container under
//! the real podman, and the program's own command line. The files are the classes of fault:
//!
//! | file | the attack |
//! |---|---|
//! | `publish` | names that the host follows or replaces |
//! | `staging` | the folder that the guest's files arrive in, and other users of the host |
//! | `budgets` | the host's memory, time and descriptors |
//! | `secrets` | what other processes and files learn |
//! | `terminal` | the user's terminal |
//! | `process` | what an attacker has who runs code in the machine's processes |
//! | `container` | the same attacks from a container |
//! | `endurance` | the same attacks again and again, for as long as [`endurance::SECONDS`] says |

pub(crate) mod attacker;
pub(crate) mod budgets;
pub(crate) mod container;
pub(crate) mod endurance;
mod guest;
pub(crate) mod process;
pub(crate) mod publish;
pub(crate) mod secrets;
pub(crate) mod staging;
pub(crate) mod terminal;

use std::fs;
use std::path::{Path, PathBuf};

/// A script that leaves one result, by the way of machines and by that of containers.
const IMAGE: &str = "mkdir -p /result; echo image >/result/image.raw
    echo image >/bundle/image.raw\n";

/// What must not leave the file that [`guest::Guest::secret`] makes.
const SECRET: &str = "aws_secret_access_key=hunter2";

/// Larger files are of the box.
const LARGEST: u64 = 4 << 20;

/// Returns the regular files below `folder` that contain `text`.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && metadata.len() < LARGEST {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if String::from_utf8_lossy(&bytes).contains(text) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

/// Returns everything below `folder`, without it, that is called `name`.
fn find_below(folder: &Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == name {
            return Some(path);
        }
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(found) = is_folder.then(|| find_below(&path, name)).flatten() {
            return Some(found);
        }
    }
    None
}

/// What a terminal would take as a command: control characters of ASCII and of C1 (ECMA-48), except for
/// line ends and tabs; and those that change how the text around them is read (UAX #9, section 2).
fn controls(text: &str) -> Vec<char> {
    let harmless = |char: &char| matches!(char, '\n' | '\t');
    let turning = |char: &char| {
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
        marks.contains(char) || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .filter(|char| turning(char) || char.is_control() && !harmless(char))
        .collect()
}
