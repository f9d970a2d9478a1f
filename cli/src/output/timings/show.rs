//! Shows a timeline in the format that the user chose.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use boxbuild_host::error::{Classify, ErrorClass};

use super::format::{Format, PAGE};
use super::html::{Facts, page};
use super::text::table;
use boxbuild_core::timeline::Timeline;

/// The page cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the page of --timings=html to {path}")]
pub(crate) struct PageError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Classify for PageError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

/// Returns the table. With [`Format::Html`], also writes the page into `folder`, and the text names
/// it. The page appears whole or not at all.
///
/// # Errors
/// Fails if the page cannot be written.
pub(crate) fn show(
    format: Format,
    facts: &Facts,
    timeline: &Timeline,
    folder: &Path,
) -> Result<String, PageError> {
    let mut text = table(timeline);
    if format == Format::Html {
        let path = folder.join(PAGE);
        write(&path, &page(facts, timeline)).map_err(|source| PageError {
            path: path.clone(),
            source,
        })?;
        text += &format!("  as a page: {}\n", path.display());
    }
    Ok(text)
}

fn write(path: &Path, html: &str) -> io::Result<()> {
    let new = path.with_extension("html.new");
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(html.as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is the one to report; the file may not exist.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_html_writes_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let (facts, timeline) = (Facts::default(), Timeline::default());
        let text = show(Format::Text, &facts, &timeline, folder.path()).unwrap();
        assert!(text.starts_with("timings\n"));
        assert!(!folder.path().join(PAGE).exists());
        let text = show(Format::Html, &facts, &timeline, folder.path()).unwrap();
        assert!(text.contains(PAGE));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let gone = folder.path().join("gone");
        let error = show(Format::Html, &facts, &timeline, &gone).unwrap_err();
        assert!(error.to_string().contains("timings.html"), "{error}");
    }
}
