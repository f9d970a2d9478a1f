//! The image in a folder with the results of a build.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::untrusted::Dir;
use serde_json::Value;

use crate::error::RunError;

/// Most files of a folder that are looked at.
const MOST: usize = 4000;
/// KIWI's list of what it made, and its longest.
const RESULT: &str = "kiwi.result.json";
const LONGEST_RESULT: u64 = 1 << 20;

/// What KIWI calls its results (kiwi/builder), the most wanted first.
const KEYS: [&str; 8] = [
    "disk_format_image",
    "disk_image",
    "live_image",
    "kis_archive",
    "container",
    "root_archive",
    "installation_image",
    "filesystem_image",
];

/// Ends of names of images, the most wanted first; those in one line are equally good. Of a raw disk
/// and one in another format, the description asks for the latter.
const ENDS: [&[&str]; 8] = [
    &[
        ".qcow2",
        ".vmdk",
        ".vhd",
        ".vhdx",
        ".vdi",
        ".ova",
        ".box",
        ".vhdfixed",
    ],
    &[
        ".raw", ".raw.xz", ".raw.zst", ".raw.gz", ".img", ".img.xz", ".img.zst", ".img.gz",
    ],
    &[".install.iso"],
    &[".iso"],
    &[
        ".docker.tar",
        ".docker.tar.xz",
        ".oci.tar",
        ".oci.tar.xz",
        ".docker.tar.zst",
        ".oci.tar.zst",
    ],
    &[".wsl", ".appx"],
    &[".tar", ".tar.xz", ".tar.gz", ".tar.zst", ".tbz"],
    &[
        ".squashfs",
        ".erofs",
        ".ext4",
        ".ext3",
        ".ext2",
        ".xfs",
        ".btrfs",
        ".cpio",
    ],
];

/// A file of a folder.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its name.
    pub(crate) name: OsString,
    /// The open file.
    pub(crate) file: File,
    /// What the user should know.
    pub(crate) note: Option<String>,
}

/// Finds the image in `folder`.
///
/// # Errors
/// If there is none, or more than one that is as good.
pub(crate) fn find(folder: &Dir, path: &Path) -> Result<Found, RunError> {
    let failed = |error| RunError::Read(path.to_owned(), error);
    let mut names: Vec<String> = Vec::new();
    for name in folder.names().map_err(failed)?.take(MOST) {
        if let Ok(name) = name.map_err(failed)?.into_string() {
            names.push(name);
        }
    }
    names.sort();
    let (chosen, note) = match by_record(folder, &names) {
        Some(name) => (name, None),
        None => by_name(&names, path)?,
    };
    let file = folder
        .file(OsStr::new(&chosen))
        .map_err(|error| RunError::Read(path.join(&chosen), error))?;
    Ok(Found {
        name: chosen.into(),
        file,
        note,
    })
}

/// The image that KIWI's own record names, if it is there.
fn by_record(folder: &Dir, names: &[String]) -> Option<String> {
    let record = folder.file(OsStr::new(RESULT)).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(LONGEST_RESULT).read_to_end(&mut bytes)?;
        serde_json::from_slice::<Value>(&bytes).map_err(io::Error::from)
    });
    let record = record.ok()?;
    KEYS.iter().find_map(|key| {
        let file = record[key]["filename"].as_str()?;
        // The path is one in the box: only the name counts.
        let name = Path::new(file).file_name()?.to_str()?;
        names.iter().find(|known| *known == name).cloned()
    })
}

fn by_name(names: &[String], path: &Path) -> Result<(String, Option<String>), RunError> {
    let of = |ends: &[&str], name: &str| ends.iter().any(|end| name.to_lowercase().ends_with(end));
    let shown_names = |names: &[&String]| {
        let names: Vec<_> = names.iter().take(10).map(|name| shown(name)).collect();
        names.join(", ")
    };
    let images = names
        .iter()
        .filter(|name| ENDS.iter().any(|ends| of(ends, name)));
    let images: Vec<&String> = images.collect();
    for ends in ENDS {
        let found: Vec<&String> = images
            .iter()
            .copied()
            .filter(|name| of(ends, name))
            .collect();
        match found.as_slice() {
            [] => {}
            [one] => {
                let others: Vec<&String> =
                    images.iter().copied().filter(|name| name != one).collect();
                let note = (!others.is_empty()).then(|| {
                    format!(
                        "{} is taken; there is also {}",
                        shown(one),
                        shown_names(&others)
                    )
                });
                return Ok(((*one).clone(), note));
            }
            several => {
                return Err(RunError::Folder(format!(
                    "{} has several images: name one of {}",
                    shown_path(path),
                    shown_names(several)
                )));
            }
        }
    }
    Err(RunError::Folder(format!(
        "{} has no file with the name of an image: name the image itself",
        shown_path(path)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], record: Option<&str>) -> Result<(String, Option<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        if let Some(record) = record {
            std::fs::write(dir.path().join(RESULT), record).unwrap();
        }
        let folder = Dir::open(dir.path()).unwrap();
        let found = find(&folder, dir.path()).map_err(|error| error.to_string())?;
        Ok((found.name.into_string().unwrap(), found.note))
    }

    #[test]
    fn a_folder_of_results_has_one_image() {
        let extra = [
            "x.packages",
            "x.changes.xz",
            "x.verified",
            "x.tar.xz.sha256",
            "result.log",
        ];
        for (images, wanted) in [
            (vec!["x.qcow2", "x.install.iso"], "x.qcow2"),
            (vec!["x.raw.xz"], "x.raw.xz"),
            (vec!["x.iso"], "x.iso"),
            (vec!["x.tar.xz"], "x.tar.xz"),
            (vec!["x.oci.tar.xz"], "x.oci.tar.xz"),
        ] {
            let names: Vec<&str> = images.iter().copied().chain(extra).collect();
            let (name, note) = chosen(&names, None).unwrap();
            assert_eq!(name, wanted);
            assert_eq!(note.is_some(), images.len() > 1);
        }
        let error = chosen(&["a.qcow2", "b.qcow2"], None).unwrap_err();
        assert!(error.contains("name one of a.qcow2, b.qcow2"), "{error}");
        assert!(chosen(&["readme"], None).is_err());
    }

    /// A path in the record of another machine must not lead out of the folder.
    #[test]
    fn the_record_of_kiwi_is_followed_by_name_only() {
        let record = r#"{"disk_image": {"filename": "/etc/../result/b.raw", "compress": false},
            "image_packages": {"filename": "/result/x.packages"}}"#;
        let (name, _) = chosen(&["a.qcow2", "b.raw"], Some(record)).unwrap();
        assert_eq!(name, "b.raw");
        let outside = r#"{"disk_image": {"filename": "/etc/passwd"}}"#;
        let (name, _) = chosen(&["a.qcow2"], Some(outside)).unwrap();
        assert_eq!(name, "a.qcow2");
    }
}
