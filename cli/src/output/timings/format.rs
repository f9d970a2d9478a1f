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
