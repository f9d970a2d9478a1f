//! Shows a timeline in the format that the user chose.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use boxbuild_core::output_dir::{TIMINGS_PAGE as PAGE, TargetDir};
use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::text::shown_path;
use boxbuild_host::umask::umask;
use boxbuild_host::units::size;
use boxbuild_host::untrusted::Replacement;

use super::format::Format;
use super::html::{Facts, page};
use super::text::table;
use boxbuild_core::timeline::Timeline;

/// The page cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the page of --timings=html to {}", shown_path(.path))]
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

/// Returns the table. With [`Format::Html`], also writes the page into `target`, and the text names
/// it. The page appears whole or not at all, and takes the place of a link instead of following it.
///
/// # Errors
/// Fails if the page cannot be written.
pub(crate) fn show(
    format: Format,
    facts: &Facts,
    timeline: &Timeline,
    target: &TargetDir,
) -> Result<String, PageError> {
    let mut text = table(timeline);
    if let Some((cached, fetched)) = facts.packages {
        text += &format!(
            "  packages: {} from the cache, {} fetched\n",
            size(cached),
            size(fetched)
        );
    }
    if format == Format::Html {
        let path = target.path().join(PAGE);
        Replacement::write(
            target.dir(),
            OsStr::new(PAGE),
            page(facts, timeline).as_bytes(),
            0o666 & !umask(),
        )
        .map_err(|source| PageError {
            path: path.clone(),
            source,
        })?;
        text += &format!("  as a page: {}\n", shown_path(&path));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many names there are, beside that of the staging folder.
    fn names(target: &TargetDir) -> usize {
        target.dir().names().unwrap().count() - 1
    }

    #[test]
    fn only_html_writes_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let target = TargetDir::acquire(folder.path()).unwrap();
        let (facts, timeline) = (Facts::default(), Timeline::default());
        let text = show(Format::Text, &facts, &timeline, &target).unwrap();
        assert!(text.starts_with("timings\n"));
        assert!(!folder.path().join(PAGE).exists());
        let text = show(Format::Html, &facts, &timeline, &target).unwrap();
        assert!(text.contains(PAGE));
        assert_eq!(names(&target), 1);
        std::fs::remove_file(folder.path().join(PAGE)).unwrap();
        std::fs::create_dir(folder.path().join(PAGE)).unwrap();
        let error = show(Format::Html, &facts, &timeline, &target).unwrap_err();
        assert!(error.to_string().contains("timings.html"), "{error}");
        assert_eq!(names(&target), 1, "nothing is left of the attempt");
    }

    /// Fault 2: the page went through a link that the guest had published.
    #[test]
    fn the_page_replaces_a_link_and_does_not_follow_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = TargetDir::acquire(&folder.path().join("target")).unwrap();
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "mine").unwrap();
        for name in [PAGE, "timings.html.new"] {
            std::os::unix::fs::symlink(&precious, target.path().join(name)).unwrap();
        }
        let (facts, timeline) = (Facts::default(), Timeline::default());
        show(Format::Html, &facts, &timeline, &target).unwrap();
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "mine");
        let page = target.path().join(PAGE).symlink_metadata().unwrap();
        assert!(page.is_file());
    }
}
