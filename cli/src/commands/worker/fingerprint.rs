//! Whether two hosts see the same description.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use boxbuild_host::digest::sha256;
use boxbuild_host::input;

/// Ends of the names of files that decide what kiwi does.
const ENDS: &[&str] = &[".kiwi", ".xml", ".yml", ".yaml", ".sh"];

/// Files of a folder that are looked at; more are not of a description.
const MOST: usize = 200;

/// Bytes of one of them that are looked at.
const LARGEST: u64 = 4 << 20;

/// Returns a hash of the description and the scripts in `folder`: what the batch and its worker must
/// have alike. What lies in folders below is not looked at, which may be large, and may be results.
///
/// # Errors
/// Fails if they cannot be read.
pub(in crate::commands) fn of_description(folder: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)?.take(100 * MOST) {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if ENDS.iter().any(|end| text.ends_with(end)) {
            names.push(name);
        }
    }
    names.sort();
    names.truncate(MOST);
    let mut whole: Vec<u8> = Vec::new();
    for name in names {
        whole.extend(name.as_encoded_bytes());
        whole.push(0);
        // A link to nothing, or a folder of such a name, is that on both hosts.
        if let Ok(file) = input::open(&folder.join(&name)) {
            let (length, hash) = sha256(&mut file.take(LARGEST))?;
            whole.extend(length.to_le_bytes());
            whole.extend(hash.as_bytes());
        }
    }
    Ok(sha256(&mut whole.as_slice())?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_description_is_another_one_and_results_in_it_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        file("config.xml", "<image/>");
        file("config.sh", "true");
        let first = of_description(dir.path()).unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        file("image.log", "log");
        assert_eq!(of_description(dir.path()).unwrap(), first);
        file("config.sh", "false");
        assert_ne!(of_description(dir.path()).unwrap(), first);
        assert!(of_description(&dir.path().join("none")).is_err());
    }
}
