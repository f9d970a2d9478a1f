//! Manual pages: what clap knows of a command, and our own sections (man-pages(7)).

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::document::Document;
use super::topic::{TOPICS, Topic};
use super::{build_args, environment, exit_codes, files};

/// Commands that run a box, and so can end with every exit code.
const RUNS: &[&str] = &["", "batch", "resume", "shell"];

/// A page to refer to: its name and section.
type Reference = (String, &'static str);

/// Returns the page of `command`. `path` are the words after boxbuild (`box create`), `examples` its
/// examples, and `others` the names of all commands' pages.
///
/// # Errors
/// Fails if clap cannot write it.
pub(crate) fn command_page(
    command: &Command,
    path: &str,
    examples: &str,
    others: &[String],
) -> io::Result<Vec<u8>> {
    let name = page_name(path);
    let man = Man::new(command.clone()).title(&name);
    let man = man.manual("boxbuild manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    options(&man, &mut page)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let mut own = Roff::default();
    if path.is_empty() {
        section(&mut own, "BUILD ARGUMENTS", &build_args::document());
    }
    section(&mut own, "EXAMPLES", &Document::default().code(examples));
    let runs = RUNS.contains(&path);
    section(&mut own, "EXIT STATUS", &exit_codes::exit_codes(runs));
    section(&mut own, "ENVIRONMENT", &environment::environment());
    section(&mut own, "FILES", &files::files());
    see_also(&mut own, &references(path, others));
    own.to_writer(&mut page)?;
    Ok(page)
}

/// Returns the page of `topic`.
///
/// # Errors
/// Fails if it cannot be written.
pub(crate) fn topic_page(topic: &Topic) -> io::Result<Vec<u8>> {
    let mut page = Roff::default();
    let name = page_name(topic.name);
    page.control("TH", [&name, topic.section, "", "", "boxbuild manual"]);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {}", topic.about))]);
    section(&mut page, "DESCRIPTION", &topic.document());
    see_also(&mut page, &references(topic.name, &[]));
    let mut bytes = Vec::new();
    page.to_writer(&mut bytes)?;
    Ok(bytes)
}

/// Returns the name of the page of a command or topic.
pub(crate) fn page_name(path: &str) -> String {
    format!("boxbuild {path}").trim_end().replace(' ', "-")
}

/// The section with the forms of the command line, as the help has them: clap_mangen names each option.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let mut page = Roff::default();
    page.control("SH", ["SYNOPSIS"]);
    for (number, line) in usage.lines().enumerate() {
        if number > 0 {
            page.control("br", []);
        }
        page.text([bold(line.trim())]);
    }
    page
}

/// Writes the options as one section; the groups are below it.
fn options(man: &Man, page: &mut Vec<u8>) -> io::Result<()> {
    let mut groups = Vec::new();
    man.render_options_section(&mut groups)?;
    let groups = String::from_utf8_lossy(&groups);
    if groups.contains(".SH OPTIONS") {
        let (first, rest) = groups.split_once(".SH OPTIONS").unwrap_or(("", &groups));
        let rest = rest.replace("\n.SH ", "\n.SS ");
        page.extend_from_slice(format!("{first}.SH OPTIONS{rest}").as_bytes());
    } else if groups.contains(".SH ") {
        let groups = groups.replacen(".SH ", ".SH OPTIONS\n.SS ", 1);
        let groups = groups.replace("\n.SH ", "\n.SS ");
        // The first one was just made.
        let groups = groups.replacen("\n.SS OPTIONS", "\n.SH OPTIONS", 1);
        page.extend_from_slice(groups.as_bytes());
    }
    Ok(())
}

fn section(page: &mut Roff, heading: &str, text: &Document) {
    page.control("SH", [heading]);
    text.add_to(page);
}

/// Returns the pages that the one of `path` refers to: those above and below it, those beside it, and
/// topics that belong to it.
fn references(path: &str, others: &[String]) -> Vec<Reference> {
    let family = path.split(' ').next().unwrap_or_default();
    let mut found: Vec<Reference> = Vec::new();
    if !path.is_empty() {
        found.push((page_name(""), "1"));
    }
    let beside = others.iter().filter(|other| {
        let first = other.split(' ').next().unwrap_or_default();
        let top = !other.contains(' ') && !other.is_empty();
        *other != path && !other.is_empty() && (top && path.is_empty() || first == family)
    });
    found.extend(beside.map(|other| (page_name(other), "1")));
    let kept = ["builds", "logs", "resume", "shell", "prune"];
    if kept.contains(&path) {
        let others = kept.iter().filter(|other| **other != path);
        found.extend(others.map(|other| (page_name(other), "1")));
    }
    let topics = TOPICS.iter().filter(|topic| {
        let of_batches = path == "batch" && topic.name == "batch-file";
        path.is_empty() || of_batches || topic.name == "exit-codes" && path != "exit-codes"
    });
    found.extend(topics.map(|topic| (page_name(topic.name), topic.section)));
    if path.is_empty() || path == "build-args" {
        found.push((String::from("kiwi"), "8"));
    }
    found
}

fn see_also(page: &mut Roff, references: &[Reference]) {
    page.control("SH", ["SEE ALSO"]);
    for (number, (name, section)) in references.iter().enumerate() {
        let end = if number + 1 < references.len() {
            ","
        } else {
            ""
        };
        page.text([bold(name.as_str()), roman(format!("({section}){end}"))]);
    }
}
