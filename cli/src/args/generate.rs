//! Options of `boxbuild generate`.

/// What `boxbuild generate` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// A manual page for each command.
    Man,
    /// Completions for bash, zsh and fish.
    Completions,
}
