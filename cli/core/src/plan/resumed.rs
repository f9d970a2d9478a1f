//! A build that goes on with another one, after kiwi's `prepare`.

use std::ffi::OsString;
use std::path::PathBuf;

use boxbuild_protocol::paths::ROOT_TREE;
use serde::Serialize;

use crate::failed_builds::Checkpoint;

/// The build that another one goes on with.
#[derive(Debug, Clone, Serialize)]
pub struct Resumed {
    /// Its name.
    pub id: String,
    /// Seconds since the epoch when kiwi's `prepare` was done.
    pub prepared: u64,
    /// The box store.
    #[serde(skip)]
    pub store: PathBuf,
    /// The box's disk, under what the build wrote.
    #[serde(skip)]
    pub image: PathBuf,
    /// The folder with what it had written when `prepare` was done.
    #[serde(skip)]
    pub disk: PathBuf,
    /// What else is known of it.
    #[serde(skip)]
    pub checkpoint: Checkpoint,
}

/// Returns the arguments of `kiwi-ng system create`, up to `--target-dir`, for the second half of what
/// `build_args` are for: those of `kiwi-ng system build`, up to `--description`. `None` if they are for
/// something else.
pub fn create_args(build_args: &[OsString]) -> Option<Vec<OsString>> {
    // Values stand behind their options: two of them are never neighbours.
    let at = build_args
        .windows(2)
        .position(|pair| pair[0] == "system" && pair[1] == "build")?;
    let (globals, build) = build_args.split_at(at);
    let mut args = Vec::new();
    let mut globals = globals.iter();
    while let Some(word) = globals.next() {
        // The root tree has the description under kiwi's own name.
        if word == "--kiwi-file" {
            globals.next();
        } else if !word.to_string_lossy().starts_with("--kiwi-file=") {
            args.push(word.clone());
        }
    }
    args.extend(["system", "create", "--root", ROOT_TREE].map(OsString::from));
    let pairs = build.windows(2).filter(|pair| pair[0] == "--signing-key");
    args.extend(pairs.flatten().cloned());
    Some(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(words: &str) -> Option<String> {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let args = create_args(&words)?;
        Some(args.join(std::ffi::OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn the_second_half_has_the_global_options_and_the_keys() {
        assert_eq!(
            created(
                "--profile system --kiwi-file a.kiwi --type oem system build --add-package system \
                 --signing-key /a --set-repo x --signing-key /b"
            )
            .unwrap(),
            "--profile system --type oem system create --root /result/build/image-root \
             --signing-key /a --signing-key /b"
        );
        assert_eq!(
            created("--debug --kiwi-file=x system build").unwrap(),
            "--debug system create --root /result/build/image-root"
        );
        assert_eq!(created("image info"), None);
    }
}
