//! Text on standard output and standard error.

use std::io::{self, Read, Write};

use boxbuild_core::kiwi_log::Lines;
use boxbuild_host::secret;
use boxbuild_host::text;

use super::ci;
use super::text::error_lines;
use crate::exit_code::{Failure, HostContext, Result};

/// How clap begins an error.
const CLAP_PREFIX: &str = "error:";

/// Text as it is printed: it does nothing to a terminal, nor to a system that runs jobs.
fn screen(text: &str) -> String {
    ci::harmless(&text::screen(text)).into_owned()
}

/// Prints to standard output. A reader that has gone away (`| head`) is not an error.
pub(crate) fn print_text(text: &str) -> Result<()> {
    unless_closed(anstream::stdout().write_all(screen(text).as_bytes()))
}

/// Prints help of clap, which has its own colours.
pub(crate) fn print_help(help: &clap::builder::StyledStr) -> Result<()> {
    unless_closed(write!(anstream::stdout(), "{}", help.ansi()))
}

/// Copies the log `source` to standard output, line by line, without what could do something to a
/// terminal.
pub(crate) fn print_log(source: &mut impl Read) -> Result<()> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    log_lines(source, |line| writeln!(stdout, "{}", ci::harmless(line)))?;
    unless_closed(stdout.flush())
}

/// Hands the lines of the log `source` to `each`, without what could do something to a terminal, until
/// one cannot be written.
pub(crate) fn log_lines(
    source: &mut impl Read,
    mut each: impl FnMut(&str) -> io::Result<()>,
) -> Result<()> {
    let mut lines = Lines::default();
    let mut buffer = vec![0; 64 << 10];
    let mut written = Ok(());
    while written.is_ok() {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).host_context(|| "cannot read the log"),
        };
        lines.push(&buffer[..count], |line| {
            if written.is_ok() {
                written = each(line);
            }
        });
    }
    if written.is_ok()
        && let Some(rest) = lines.rest()
    {
        written = each(&rest);
    }
    unless_closed(written)
}

/// Prints a line of a log at once. Returns false if the reader has gone away.
pub(crate) fn print_log_line(line: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", ci::harmless(line)).and_then(|()| stdout.flush());
    let closed = matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
    unless_closed(written)?;
    Ok(!closed)
}

/// Prints a line on standard error. One that is closed does not fail a command.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(anstream::stderr(), "{}", screen(text));
}

/// Prints a failure with its causes, one line each.
pub(crate) fn print_failure(failure: &Failure) {
    if let Some((message, causes)) = failure.messages().split_first() {
        for line in error_lines(message, causes) {
            print_line(&line);
        }
    }
}

/// Prints what clap has to say: help and version on standard output, an error on standard error,
/// with the prefix of all other errors.
pub(crate) fn print_usage_error(error: &clap::Error) -> Result<()> {
    if error.use_stderr() {
        // clap's prefix cannot be set.
        let text = error.render().ansi().to_string();
        let text = text.replacen(CLAP_PREFIX, "boxbuild:", 1);
        let _ = write!(anstream::stderr(), "{}", screen(&secret::redact(&text)));
        return Ok(());
    }
    unless_closed(error.print())
}

/// Returns an error of clap without its prefix.
pub(crate) fn usage_error_text(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.strip_prefix(CLAP_PREFIX).unwrap_or(&text);
    secret::redact(text.trim()).into_owned()
}

/// Returns what an error of clap says, on one line, and its tips: without its prefix, the usage, and
/// the words that lead to the help.
pub(crate) fn usage_error(error: &clap::Error) -> (String, Option<String>) {
    let text = usage_error_text(error);
    let words = |paragraph: &str| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    };
    let mut paragraphs = text.split("\n\n");
    let message = words(paragraphs.next().unwrap_or_default());
    let tips: Vec<String> = paragraphs
        .flat_map(str::lines)
        .filter_map(|line| line.trim_start().strip_prefix("tip:"))
        .map(words)
        .collect();
    (message, (!tips.is_empty()).then(|| tips.join("; ")))
}

pub(super) fn unless_closed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).host_context(|| "cannot write to standard output")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_command_line_is_quoted_without_its_secrets() {
        let text = "error: no option --add-repo=https://me:s3cret@host/x\n";
        let error = clap::Error::raw(clap::error::ErrorKind::UnknownArgument, text);
        let (shown, _) = usage_error(&error);
        assert!(shown.contains("https://***@host/x"), "{shown}");
    }

    /// Case E14: clap's text of five lines was the message of an event.
    #[test]
    fn a_wrong_command_line_is_one_message() {
        let of = |words: &[&str]| {
            let words = words.iter().map(std::ffi::OsString::from);
            usage_error(&crate::args::parse(words).unwrap_err())
        };
        let (message, hint) = of(&["--box", "x", "--box-memry", "4G"]);
        assert_eq!(message, "unexpected argument '--box-memry' found");
        assert_eq!(hint.unwrap(), "a similar argument exists: '--box-memory'");
        let (_, hint) = of(&["shell", "--json"]);
        assert_eq!(hint, None, "-- means something else here");
        let (message, hint) = of(&["box", "create"]);
        assert_eq!(
            message,
            "the following required arguments were not provided: --from <DISTRIBUTION:SUITE> <NAME>"
        );
        assert_eq!(hint, None);
    }

    /// Fault 13: `boxbuild logs` showed the log byte by byte.
    #[test]
    fn a_log_does_nothing_to_the_terminal() {
        let log = "one\n\x1b]0;title\x07two\r\n\u{202e}\u{9b}2Jthree\tx";
        let mut shown = Vec::new();
        let each = |line: &str| {
            shown.push(line.to_owned());
            Ok(())
        };
        log_lines(&mut log.as_bytes(), each).unwrap();
        assert_eq!(shown, ["one", "0;titletwo", "2Jthree\tx"]);
    }

    /// It was said that standard output could not be written to.
    #[test]
    fn a_log_that_cannot_be_read_is_not_taken_for_a_full_disk() {
        let folder = std::env::temp_dir();
        let mut folder = std::fs::File::open(folder).unwrap();
        let failure = print_log(&mut folder).unwrap_err();
        assert_eq!(failure.messages()[0], "cannot read the log");
    }

    #[test]
    fn a_log_is_read_no_further_than_it_can_be_written() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let mut count = 0;
        let each = |_: &str| {
            count += 1;
            Err(full())
        };
        let failure = log_lines(&mut io::repeat(b'\n'), each).unwrap_err();
        assert_eq!(failure.messages()[0], "cannot write to standard output");
        assert_eq!(count, 1);
    }
}
