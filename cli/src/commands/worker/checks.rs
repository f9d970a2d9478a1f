//! Whether this host has what a batch expects of it.

use std::path::Path;

use boxbuild_boxes::store::Store;
use boxbuild_engine::EngineChoice;
use boxbuild_host::arch::Arch;
use boxbuild_host::input;
use boxbuild_host::text::shown_path;

use super::fingerprint;
use super::protocol::{
    Expected, ExpectedBox, ExpectedDescription, Job, PROTOCOL, SharedFile, VERSION,
};

/// Bytes of a file that shows that a folder is shared.
const LONGEST_TOKEN: u64 = 1 << 10;

/// Returns why this host cannot do the job.
pub(super) fn problem(job: &Job) -> Option<String> {
    if (job.protocol, job.version.as_str()) != (PROTOCOL, VERSION) {
        return Some(other_version(&job.version, VERSION));
    }
    let Expected {
        boxes,
        descriptions,
        shared,
        kvm,
    } = &job.expected;
    let shared = shared.iter().find_map(not_shared);
    shared
        .or_else(|| boxes.iter().find_map(box_problem))
        .or_else(|| descriptions.iter().find_map(description_problem))
        .or_else(|| kvm.as_deref().and_then(kvm_problem))
}

/// Says that two versions meet.
pub(in crate::commands) fn other_version(batch: &str, host: &str) -> String {
    format!(
        "its boxbuild is of version {host}, the batch's of version {batch}: install the same one"
    )
}

fn not_shared(file: &SharedFile) -> Option<String> {
    let path = file.path.to_path();
    let folder = path.ancestors().nth(2).unwrap_or(Path::new("/"));
    let reason = match input::read(&path, LONGEST_TOKEN) {
        Ok(text) if text == file.text.as_bytes() => return None,
        Ok(_) => String::from("another file is there"),
        Err(error) => error.to_string(),
    };
    Some(format!(
        "it does not have the batch's {} ({reason}): results have to be in a folder that both share",
        shown_path(folder)
    ))
}

fn box_problem(expected: &ExpectedBox) -> Option<String> {
    let name = &expected.name;
    let installed = match Store::of_user().and_then(|store| store.get_for(name, None)) {
        Ok(installed) => installed,
        Err(error) => return Some(format!("{error}")),
    };
    let here = files(&installed.info.files());
    (here != expected.files).then(|| {
        format!(
            "its box '{name}' is not the one of the batch's host: use one store \
             (KIWI_BOXED_CACHE_DIR), or copy the box"
        )
    })
}

/// Names and checksums of the files of a box.
pub(in crate::commands) fn files(
    files: &[&boxbuild_boxes::store::BoxFile],
) -> Vec<(String, String)> {
    let files = files.iter();
    files
        .map(|file| (file.name.clone(), file.sha256.clone()))
        .collect()
}

fn description_problem(expected: &ExpectedDescription) -> Option<String> {
    let folder = expected.folder.to_path();
    match fingerprint::of_description(&folder) {
        Ok(here) if here == expected.fingerprint => None,
        Ok(_) => Some(format!(
            "the description in {} is not the batch's",
            shown_path(&folder)
        )),
        Err(error) => Some(format!("the description {}: {error}", shown_path(&folder))),
    }
}

fn kvm_problem(arch: &str) -> Option<String> {
    let arch: Arch = match arch.parse() {
        Ok(arch) => arch,
        Err(error) => return Some(format!("{error}")),
    };
    let unusable = boxbuild_engine::select(EngineChoice::Kvm, arch).err()?;
    Some(unusable.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(expected: Expected) -> Job {
        Job {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            lost_after_seconds: 1,
            expected,
            build: None,
        }
    }

    #[test]
    fn a_host_with_everything_is_fit() {
        assert_eq!(problem(&job(Expected::default())), None);
    }

    #[test]
    fn another_version_is_told_by_both_numbers() {
        let mut other = job(Expected::default());
        other.version = String::from("99.0");
        let text = problem(&other).unwrap();
        assert!(text.contains("99.0") && text.contains(VERSION), "{text}");
        let mut other = job(Expected::default());
        other.protocol = PROTOCOL + 1;
        assert!(problem(&other).is_some());
    }

    #[test]
    fn a_folder_that_is_another_one_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared/token");
        std::fs::create_dir(dir.path().join("shared")).unwrap();
        let with = |text: &str| {
            problem(&job(Expected {
                shared: vec![SharedFile {
                    path: path.as_path().into(),
                    text: text.to_owned(),
                }],
                ..Expected::default()
            }))
        };
        assert!(with("word").unwrap().contains("No such file"));
        std::fs::write(&path, "word").unwrap();
        assert_eq!(with("word"), None);
        let text = with("other").unwrap();
        assert!(text.contains(&*dir.path().to_string_lossy()), "{text}");
    }

    #[test]
    fn a_description_that_differs_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.xml"), "<image/>").unwrap();
        let with = |fingerprint: String| {
            problem(&job(Expected {
                descriptions: vec![ExpectedDescription {
                    folder: dir.path().into(),
                    fingerprint,
                }],
                ..Expected::default()
            }))
        };
        let same = fingerprint::of_description(dir.path()).unwrap();
        assert_eq!(with(same), None);
        assert!(
            with(String::from("00"))
                .unwrap()
                .contains("not the batch's")
        );
    }
}
