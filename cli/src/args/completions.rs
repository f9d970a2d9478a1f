//! Options of the commands for shell completions.

use clap::Args;

/// A shell whose completions are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CompletionShell {
    /// GNU Bash 4.0 or newer.
    Bash,
    /// The Z shell.
    Zsh,
    /// Fish 3.0 or newer.
    Fish,
}

impl CompletionShell {
    /// Returns whether it shows what a candidate is.
    pub(crate) fn has_descriptions(self) -> bool {
        self != CompletionShell::Bash
    }
}

/// Options of `boxbuild completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: CompletionShell,
    /// Complete this command: the name of a link to boxbuild, such as kiwi-ng.
    #[arg(long, value_name = "COMMAND", default_value = "boxbuild")]
    pub(crate) name: String,
}

/// Options of the hidden `boxbuild complete`, whose words are behind the separator.
#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    /// The shell that asks.
    pub(crate) shell: CompletionShell,
    /// Number of the word that is completed; the name of the program is 0.
    pub(crate) index: usize,
}
