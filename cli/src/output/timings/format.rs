//! The values of `--timings`.

/// How `--timings` is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table on standard error.
    #[default]
    Text,
    /// A page in the target directory, and the table.
    Html,
}

/// Name of the page in the target directory.
pub(crate) const PAGE: &str = "timings.html";
