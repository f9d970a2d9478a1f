//! The formats of `--timings`.

/// A format of `--timings`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table on standard error.
    #[default]
    Text,
    /// The table, and a page in the target folder.
    Html,
}

/// Name of the page in the target folder.
pub(crate) const PAGE: &str = "timings.html";
