//! Cuts an unfinished command line at the separator. Its words stay as they were typed: what
//! [`crate::args::parse`] makes of them is for whole lines.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::CommandFactory;

use crate::args::Cli;

/// Cuts at the first `--` or bare word `kiwi`, and drops the words `system boxbuild`.
pub(super) fn cut(argv: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let command = Cli::command();
    let mut front = Vec::new();
    let mut words = argv.into_iter();
    let mut bare_words = 0;
    while let Some(word) = words.next() {
        if word == "--" || (word == "kiwi" && bare_words == 0) {
            return (front, Some(words.collect()));
        }
        if takes_value(&command, &word) {
            front.push(word);
            front.extend(words.next());
        } else if word == "system" && bare_words == 0 {
            match words.next() {
                Some(next) if next == "boxbuild" => {}
                next => {
                    front.push(word);
                    front.extend(next);
                    bare_words += 1;
                }
            }
        } else {
            bare_words += usize::from(!word.as_bytes().starts_with(b"-"));
            front.push(word);
        }
    }
    (front, None)
}

/// Returns whether `word` is an option whose value is the next word.
fn takes_value(command: &clap::Command, word: &OsStr) -> bool {
    let Some(name) = word.to_str().and_then(|word| word.strip_prefix("--")) else {
        return false;
    };
    command
        .get_arguments()
        .filter(|arg| arg.get_long() == Some(name))
        // An optional value follows `=`; it is never a word of its own.
        .any(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}
