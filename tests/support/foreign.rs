//! Programs of another architecture than the host's, and the shared libraries that they need.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{command, output};

/// Where libraries of an architecture are looked for.
#[derive(Debug)]
pub struct Libraries {
    /// `e_machine` of its programs (ELF gABI, figure 4-2).
    pub machine: u16,
    /// The name of its folders below `/usr/lib`, as `aarch64-linux-gnu`.
    pub triplet: String,
    /// Trees of unpacked packages.
    pub roots: Vec<PathBuf>,
}

impl Libraries {
    /// Returns the libraries of a program and of its libraries, with their paths in the machine and on
    /// the host. What is in no tree is left out: the dynamic linker will say so.
    ///
    /// # Errors
    /// If readelf cannot be run.
    pub fn of(&self, program: &Path) -> Result<BTreeMap<String, PathBuf>> {
        let mut found = BTreeMap::new();
        let mut left = vec![program.to_owned()];
        while let Some(file) = left.pop() {
            let mut readelf = command("readelf");
            let text = output(readelf.args(["--wide", "-l", "-d"]).arg(&file))?;
            for needed in needed(&text) {
                let name = needed.rsplit('/').next().unwrap_or(needed);
                let inside = if needed.starts_with('/') {
                    needed.to_owned()
                } else {
                    format!("/lib/{}/{name}", self.triplet)
                };
                if found.contains_key(&inside) {
                    continue;
                }
                if let Some(library) = self.find(name) {
                    left.push(library.clone());
                    found.insert(inside, library);
                }
            }
        }
        Ok(found)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let folders = ["usr/lib", "lib"].into_iter().flat_map(|lib| {
            let deep = format!("{lib}/{}", self.triplet);
            [deep, lib.to_owned()]
        });
        let places = folders.flat_map(|folder| {
            let place = move |root: &PathBuf| root.join(&folder).join(name);
            self.roots.iter().map(place)
        });
        let found: Vec<PathBuf> = places.filter(|place| place.is_file()).take(1).collect();
        found.into_iter().next()
    }
}

/// `e_machine` of an ELF file; nothing if it is none.
///
/// # Errors
/// If the file cannot be read.
pub fn machine(path: &Path) -> Result<Option<u16>> {
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    file.take(20).read_to_end(&mut start)?;
    let little = start.starts_with(b"\x7fELF") && start.get(5) == Some(&1);
    Ok(match start.get(18..20) {
        Some(&[low, high]) if little => Some(u16::from_le_bytes([low, high])),
        _ => None,
    })
}

/// The dynamic linker, as a path, and the names of the libraries, in the output of readelf.
fn needed(readelf: &str) -> impl Iterator<Item = &str> {
    readelf.lines().filter_map(|line| {
        let interpreter = line.split_once("program interpreter: ");
        let name = interpreter.or_else(|| line.split_once("Shared library: ["))?;
        name.1.trim_end().strip_suffix(']')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_readelf() {
        let text = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n\
                    0x0000000000000001 (NEEDED)  Shared library: [libgcc_s.so.1]\n\
                    0x000000000000001d (RUNPATH) Library runpath: [/x]\n";
        let found: Vec<&str> = needed(text).collect();
        assert_eq!(found, ["/lib/ld-linux-aarch64.so.1", "libgcc_s.so.1"]);
    }

    #[test]
    fn a_program_tells_its_architecture() {
        let own = machine(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(
            own,
            Some(if cfg!(target_arch = "aarch64") {
                183
            } else {
                62
            })
        );
        let text = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(text.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(machine(text.path()).unwrap(), None);
    }
}
