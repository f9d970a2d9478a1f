//! Which file kiwi takes as the description (kiwi 11.1.6, `tasks/base.py`).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::view::{BoxView, Resolved};

/// What kiwi looks for, in words.
pub const KIWI_FILES: &str = "config.xml, image/config.xml, *.kiwi";

/// The file that kiwi takes.
#[derive(Debug)]
pub(crate) enum Found {
    /// This path of the box, and the file of the host that it leads to.
    File {
        path: PathBuf,
        host: PathBuf,
        /// Other files that match `*.kiwi`, of which kiwi takes the first.
        others: Vec<OsString>,
    },
    /// This path of the box; what it leads to is a file of the box.
    InBox { path: PathBuf, target: PathBuf },
    /// None.
    Nothing(Nothing),
}

/// Why there is no description.
#[derive(Debug, Default)]
pub(crate) struct Nothing {
    /// A link that would have been taken, and where it leads in the box.
    pub(crate) dangling: Option<(PathBuf, PathBuf)>,
    /// Files of the folder that look like a description under a name that kiwi does not look for.
    pub(crate) likely: Vec<OsString>,
}

/// Finds it.
///
/// # Errors
/// Fails if the folder cannot be read.
pub(crate) fn find(view: &BoxView, asked: Option<&Path>) -> io::Result<Found> {
    let mut nothing = Nothing::default();
    let candidates: Vec<PathBuf> = match asked {
        Some(name) => vec![name.to_owned()],
        None => vec!["config.xml".into(), "image/config.xml".into()],
    };
    for name in candidates {
        if let Some(found) = look(view, &name, &mut nothing)? {
            return Ok(found);
        }
    }
    if asked.is_some() {
        return Ok(Found::Nothing(nothing));
    }
    let (mut kiwi, mut likely) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(view.folder())? {
        let name = entry?.file_name();
        let extension = Path::new(&name).extension().map(OsStrExt::as_bytes);
        let hidden = name.as_bytes().starts_with(b".");
        match extension {
            // The pattern *.kiwi does not match hidden files.
            _ if hidden => {}
            _ if name.as_bytes().ends_with(b".kiwi") => kiwi.push(name),
            Some(b"xml" | b"yml" | b"yaml" | b"json") => likely.push(name),
            _ => {}
        }
    }
    // As Python sorts: by code points, whose order UTF-8 keeps.
    kiwi.sort();
    likely.sort();
    likely.truncate(5);
    let first = (!kiwi.is_empty()).then(|| kiwi.remove(0));
    if let Some(first) = first
        && let Some(mut found) = look(view, Path::new(&first), &mut nothing)?
    {
        if let Found::File { others, .. } = &mut found {
            *others = kiwi;
        }
        return Ok(found);
    }
    nothing.likely = likely;
    Ok(Found::Nothing(nothing))
}

/// Looks whether a name leads to something, as `os.path.exists` does in the box.
fn look(view: &BoxView, name: &Path, nothing: &mut Nothing) -> io::Result<Option<Found>> {
    let path = BoxView::path(name);
    match view.resolve(&path) {
        Resolved::Host(host) => Ok(Some(Found::File {
            path,
            host,
            others: Vec::new(),
        })),
        Resolved::InBox(target) => Ok(Some(Found::InBox { path, target })),
        Resolved::Nothing {
            path: target,
            linked,
        } => {
            if linked || !target.starts_with("/description") {
                nothing.dangling.get_or_insert((path, target));
            }
            Ok(None)
        }
        Resolved::Unknown(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Resolved::Unknown(error) => Err(error),
    }
}
