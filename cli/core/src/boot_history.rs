//! The boots of a box in earlier builds: whether it can be booted fast.
//!
//! One small file for each box (by the hashes of its files), engine and version of boxbuild's
//! init, in the user's cache. It appears by one rename. Losing it costs a second attempt.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use boxbuild_firmware::guest::Init;
use etcetera::BaseStrategy;

use boxbuild_boxes::store::BoxInfo;
use boxbuild_engine::CpuLevel;
use boxbuild_host::digest::sha256;

/// Suffix of the file with the level of the processor.
const CPU: &str = "cpu";

/// Longest file that is read, in bytes.
const LONGEST: usize = 4096;

/// How a box was last brought up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootOutcome {
    /// It has been booted fast.
    Fast,
    /// It could not be booted fast, for this reason, and then was booted by its own init.
    Unfit(String),
}

/// The history of one box under one engine.
#[derive(Debug)]
pub struct BootHistory {
    path: Option<PathBuf>,
}

impl BootHistory {
    /// For a box under an engine.
    pub fn of(info: &BoxInfo, engine: &str) -> BootHistory {
        let base = etcetera::choose_base_strategy().ok();
        BootHistory {
            path: base.and_then(|base| {
                let folder = base.cache_dir().join("boxbuild").join("boots");
                Some(folder.join(key(info, engine)?))
            }),
        }
    }

    /// Returns how the box was last brought up.
    #[expect(clippy::disallowed_methods, reason = "a cache of boxbuild's own")]
    pub fn recall(&self) -> Option<BootOutcome> {
        let mut text = fs::read_to_string(self.path.as_ref()?).ok()?;
        text.truncate(text.floor_char_boundary(LONGEST));
        match text.trim_end().split_once(' ') {
            None if text.trim_end() == "fast" => Some(BootOutcome::Fast),
            Some(("unfit", reason)) => Some(BootOutcome::Unfit(reason.to_owned())),
            _ => None,
        }
    }

    /// The level of the emulated processor that the box was found to need.
    #[expect(clippy::disallowed_methods, reason = "a cache of boxbuild's own")]
    pub fn cpu_level(&self) -> CpuLevel {
        let path = self.path.as_ref().map(|path| path.with_extension(CPU));
        path.and_then(|path| fs::read_to_string(path).ok())
            .and_then(|text| CpuLevel::from_name(text.trim_end()))
            .filter(|level| *level <= CpuLevel::EMULATED)
            .unwrap_or_default()
    }

    /// Keeps the level that the box needs.
    pub fn keep_cpu_level(&self, level: CpuLevel) {
        if let Some(path) = &self.path
            && self.cpu_level() != level
        {
            let _ = write(
                &path.with_extension(CPU),
                &format!(
                    "{}
",
                    level.name()
                ),
            );
        }
    }

    /// Keeps what is known now. A cache that cannot be written to is no reason to fail.
    pub fn keep(&self, known: &BootOutcome) {
        let text = match known {
            BootOutcome::Fast => String::from("fast\n"),
            BootOutcome::Unfit(reason) => format!("unfit {}\n", reason.replace('\n', " ")),
        };
        if self.recall().as_ref() != Some(known) {
            let _ = self.path.as_ref().map(|path| write(path, &text));
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn key(info: &BoxInfo, engine: &str) -> Option<String> {
    let init = Init::of(info.arch.name()).fingerprint();
    let text = format!(
        "{} {} {} {} {engine} {init:x}",
        info.kernel.sha256,
        info.initrd.sha256,
        info.disk.sha256,
        info.cmdline.join(" ")
    );
    sha256(&mut text.as_bytes()).ok().map(|(_, hash)| hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_recalled() {
        let dir = tempfile::tempdir().unwrap();
        let memory = BootHistory {
            path: Some(dir.path().join("boots").join("x")),
        };
        assert_eq!(memory.recall(), None);
        for known in [
            BootOutcome::Fast,
            BootOutcome::Unfit("two words".into()),
            BootOutcome::Fast,
        ] {
            memory.keep(&known);
            assert_eq!(memory.recall(), Some(known));
        }
        memory.keep(&BootOutcome::Unfit("two\nlines".into()));
        assert_eq!(
            memory.recall(),
            Some(BootOutcome::Unfit("two lines".into()))
        );
        assert_eq!(memory.cpu_level(), CpuLevel::V1);
        memory.keep_cpu_level(CpuLevel::V2);
        assert_eq!(memory.cpu_level(), CpuLevel::V2);
        fs::write(dir.path().join("boots").join("x.cpu"), "x86-64-v9").unwrap();
        assert_eq!(memory.cpu_level(), CpuLevel::V1);
        fs::write(dir.path().join("boots").join("x"), "something else").unwrap();
        assert_eq!(memory.recall(), None);
    }

    #[test]
    fn without_a_cache_nothing_is_known() {
        let memory = BootHistory { path: None };
        memory.keep(&BootOutcome::Fast);
        assert_eq!(memory.recall(), None);
    }
}
