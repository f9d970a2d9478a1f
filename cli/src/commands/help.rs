//! `boxbuild help`: the help of a command, or a topic.

use boxbuild_host::nearest::{TYPO, nearest};

use crate::args;
use crate::exit_code::{ExitCode, Failure, Result};
use crate::manual::{TOPICS, topic};
use crate::output::print::{print_failure, print_help, print_text};

/// Shows the help of the command or topic that `words` name; without words, of a build.
///
/// # Errors
/// Fails if there is none.
pub(super) fn run(words: &[String]) -> Result<ExitCode> {
    if let [name] = words
        && let Some(topic) = topic(name)
    {
        print_text(&topic.document().text())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut command = args::command();
    command.build();
    let mut found = &command;
    for word in words {
        let next = found.find_subcommand(word);
        // A topic stands alone.
        let topics = TOPICS.iter().filter(|_| words.len() == 1);
        let topics = topics.map(|topic| topic.name);
        found = next.ok_or_else(|| unknown(word, found, topics))?;
    }
    print_help(&found.clone().render_long_help())?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the topic of the options after the separator.
pub(super) fn build_args() -> ExitCode {
    run(&[String::from("build-args")]).unwrap_or_else(|failure| {
        print_failure(&failure);
        failure.code()
    })
}

/// The failure for a word that is neither a command below `command` nor one of `topics`.
fn unknown<'a>(
    word: &str,
    command: &'a clap::Command,
    topics: impl Iterator<Item = &'a str>,
) -> Failure {
    let known: Vec<&str> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(clap::Command::get_name)
        .chain(topics)
        .collect();
    let hint = match nearest(word, known.iter().copied(), TYPO) {
        Some(near) => format!("did you mean '{near}'?"),
        None if known.is_empty() => format!("'{}' has none below it", command.get_name()),
        None => format!("known: {}", known.join(", ")),
    };
    Failure::new(
        ExitCode::USAGE,
        anyhow::anyhow!("there is no command or topic '{word}'; {hint}"),
    )
}
