//! What `boxbuild generate` makes.

/// What can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// A manual page for each command.
    Man,
    /// Completions for bash, zsh and fish.
    Completions,
}
