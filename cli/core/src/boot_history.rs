//! The boots of a box in earlier builds: whether it can be booted fast.
//!
//! One small file for each box (by the hashes of its files), engine and version of boxbuild's
//! init, in the user's cache. It appears by one rename. Losing it costs a second attempt.

use boxbuild_boxes::store::BoxInfo;
use boxbuild_engine::CpuLevel;
use boxbuild_firmware::guest::Init;
use boxbuild_host::digest::sha256;

use crate::cache_file::CacheFile;

/// Files that are kept at most: one or two for a box with each engine and version of boxbuild's init.
const MOST: usize = 200;

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
    outcome: CacheFile,
    /// The level of the processor.
    level: CacheFile,
}

impl BootHistory {
    /// For a box under an engine.
    pub fn of(info: &BoxInfo, engine: &str) -> BootHistory {
        let key = key(info, engine);
        let level = key.as_ref().map(|key| format!("{key}.cpu"));
        BootHistory {
            outcome: CacheFile::of_user("boots", key, MOST),
            level: CacheFile::of_user("boots", level, MOST),
        }
    }

    /// Returns how the box was last brought up.
    pub fn recall(&self) -> Option<BootOutcome> {
        let text = self.outcome.read()?;
        match text.trim_end().split_once(' ') {
            None if text.trim_end() == "fast" => Some(BootOutcome::Fast),
            Some(("unfit", reason)) => Some(BootOutcome::Unfit(reason.to_owned())),
            _ => None,
        }
    }

    /// The level of the emulated processor that the box was found to need.
    pub fn cpu_level(&self) -> CpuLevel {
        self.level
            .read()
            .and_then(|text| CpuLevel::from_name(text.trim_end()))
            .filter(|level| *level <= CpuLevel::EMULATED)
            .unwrap_or_default()
    }

    /// Keeps the level that the box needs.
    pub fn keep_cpu_level(&self, level: CpuLevel) {
        if self.cpu_level() != level {
            self.level.write(&format!("{}\n", level.name()));
        }
    }

    /// Keeps what is known now. A cache that cannot be written to is no reason to fail.
    pub fn keep(&self, known: &BootOutcome) {
        let text = match known {
            BootOutcome::Fast => String::from("fast\n"),
            BootOutcome::Unfit(reason) => format!("unfit {}\n", reason.replace('\n', " ")),
        };
        if self.recall().as_ref() != Some(known) {
            self.outcome.write(&text);
        }
    }
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
        let path = dir.path().join("boots").join("x");
        let memory = BootHistory {
            outcome: CacheFile::at(Some(path.clone()), MOST),
            level: CacheFile::at(Some(path.with_extension("cpu")), MOST),
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
        memory.level.write("x86-64-v9");
        assert_eq!(memory.cpu_level(), CpuLevel::V1);
        std::fs::write(path, "something else").unwrap();
        assert_eq!(memory.recall(), None);
    }

    #[test]
    fn without_a_cache_nothing_is_known() {
        let memory = BootHistory {
            outcome: CacheFile::at(None, MOST),
            level: CacheFile::at(None, MOST),
        };
        memory.keep(&BootOutcome::Fast);
        assert_eq!(memory.recall(), None);
    }
}
