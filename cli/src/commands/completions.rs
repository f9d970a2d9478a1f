//! `boxbuild completions`, and what its scripts call.

use std::ffi::OsString;

use boxbuild_host::text::is_harmful;

use crate::args::{CompleteArgs, CompletionsArgs};
use crate::completion::{candidates, script};
use crate::exit_code::{ExitCode, Failure, Result};
use crate::output::print::print_text;

/// Prints the completion script for a shell.
///
/// # Errors
/// Fails if the name cannot be that of a command.
pub(super) fn run(args: &CompletionsArgs) -> Result<ExitCode> {
    let name = args.name.as_str();
    let good = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(good) {
        return Err(Failure::new(
            ExitCode::USAGE,
            anyhow::anyhow!("--name {}: not the name of a command", name.escape_debug()),
        ));
    }
    let program = std::env::current_exe().ok();
    print_text(&script(args.shell, name, program.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what may stand in place of a word: a line each, with a tab before what it is.
pub(super) fn complete(args: &CompleteArgs, words: &[OsString]) -> Result<ExitCode> {
    let mut text = String::new();
    for candidate in candidates(args.shell, words, args.index) {
        // A name with an end of line would be two words, and one for a terminal another than it is.
        if candidate.value.chars().any(is_harmful) {
            continue;
        }
        text += &candidate.value;
        if args.shell.has_descriptions() && !candidate.help.is_empty() {
            text += &format!("\t{}", candidate.help);
        }
        text.push('\n');
    }
    print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}
