//! What GitHub shows of a job besides its log: annotations at files and lines, and the job's summary.
//!
//! Texts of guests are in both. In an annotation they are escaped as the runner's own toolkit does
//! (`command.ts`), so that they stay one value of one command; in the summary, which is Markdown with
//! HTML, every character that could mean something is a character reference. Nothing of this happens
//! elsewhere than on a runner, nor with `--json`: what reads that can do better.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_host::units::seconds;
use boxbuild_host::{secret, text};

use super::ci;
use super::event::{BuildOutcome, BuildResult};
use super::print::print_line;

/// Longest text of an annotation in characters: GitHub shows 4 KiB.
const LONGEST: usize = 2000;

/// Most of the last lines of a build, in bytes.
const LONGEST_WORDS: usize = 16 << 10;

/// Longest page in bytes. A runner drops a step's summary beyond 1 MiB.
const LARGEST: usize = 512 << 10;

/// How much an annotation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Error,
    Notice,
}

/// A message at a place.
#[derive(Debug)]
pub(crate) struct Annotation<'a> {
    pub(crate) level: Level,
    /// The file, from the working folder.
    pub(crate) file: Option<&'a Path>,
    pub(crate) line: Option<usize>,
    pub(crate) title: &'a str,
    /// The message, possibly of several lines.
    pub(crate) text: &'a str,
}

/// A build in a job's summary.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    /// It has results.
    pub(crate) good: bool,
    /// How it ended, in a word or two.
    pub(crate) result: String,
    pub(crate) time: String,
    /// Why it failed.
    pub(crate) reason: Option<&'a str>,
    /// The lines that explain it.
    pub(crate) last_words: &'a [String],
}

/// Shows a message at its place, where GitHub reads what this process prints.
pub(crate) fn annotate(annotation: &Annotation<'_>) {
    if ci::is_github() {
        let workspace = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
        let command = command(annotation, workspace.as_deref());
        ci::write(&command);
    }
}

/// Appends a table of builds to the job's summary, where there is one.
pub(crate) fn summarise(title: &str, rows: &[Row<'_>], last: &str) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|_| ci::is_github()) else {
        return;
    };
    if let Err(error) = append(Path::new(&path), &page(title, rows, last)) {
        print_line(&format!("boxbuild: no job summary was written: {error}"));
    }
}

#[expect(clippy::disallowed_methods, reason = "the runner names the file")]
fn append(path: &Path, page: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(page.as_bytes())
}

/// Shows why a build did not run.
pub(crate) fn show_error(message: &str) {
    annotate(&Annotation {
        level: Level::Error,
        file: None,
        line: None,
        title: "boxbuild",
        text: message,
    });
}

/// Shows how a single build of `description` ended.
pub(crate) fn show_build(description: &Path, result: &BuildResult) {
    let name = description.file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    let (reason, last_words): (_, &[String]) = match &result.outcome {
        BuildOutcome::Built { .. } => (None, &[]),
        BuildOutcome::Failed {
            message,
            last_lines,
            ..
        } => (Some(message.as_str()), last_lines),
    };
    if let Some(reason) = reason {
        annotate(&Annotation {
            level: Level::Error,
            file: None,
            line: None,
            title: &name,
            text: reason,
        });
    }
    let good = reason.is_none();
    let time = seconds(Duration::try_from_secs_f64(result.seconds).unwrap_or_default());
    let row = Row {
        name: &name,
        good,
        result: String::from(if good { "built" } else { "failed" }),
        time,
        reason,
        last_words,
    };
    summarise("boxbuild", &[row], "");
}

/// Returns the runner's command for an annotation. Files are named from the checkout, `workspace`.
fn command(annotation: &Annotation<'_>, workspace: Option<&Path>) -> String {
    let name = match annotation.level {
        Level::Error => "error",
        Level::Notice => "notice",
    };
    let mut properties = format!("title={}", property(&plain(annotation.title)));
    if let Some(file) = annotation.file {
        let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let file = workspace.and_then(|workspace| whole.strip_prefix(workspace).ok());
        let file = file.unwrap_or(&whole).to_string_lossy();
        let _ = write!(properties, ",file={}", property(&file));
    }
    if let Some(line) = annotation.line {
        let _ = write!(properties, ",line={line}");
    }
    let mut words = plain(annotation.text);
    if let Some((end, _)) = words.char_indices().nth(LONGEST) {
        words.truncate(end);
        words.push('…');
    }
    format!("::{name} {properties}::{}\n", data(&words))
}

/// Text without what could do something to a terminal, and without secrets.
fn plain(text: &str) -> String {
    let lines = text.lines().map(|line| text::plain(line.as_bytes()));
    let lines: Vec<String> = lines.collect();
    secret::redact(&lines.join("\n")).into_owned()
}

/// The value of a command.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// The value of a command's property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// Returns a table of builds, and below it what is known of those that failed. `last` is a line of ours.
fn page(title: &str, rows: &[Row<'_>], last: &str) -> String {
    let mut page = format!(
        "### {}\n\n| | build | result | time | reason |\n|---|---|---|---|---|\n",
        cell(title)
    );
    let mut left_out = 0;
    for (number, row) in rows.iter().enumerate() {
        let line = format!(
            "| {} | {} | {} | {} | {} |\n",
            if row.good { "✓" } else { "✗" },
            cell(row.name),
            cell(&row.result),
            cell(&row.time),
            cell(row.reason.unwrap_or_default())
        );
        if page.len() + line.len() > LARGEST / 2 {
            left_out = rows.len() - number;
            break;
        }
        page += &line;
    }
    if left_out > 0 {
        let _ = writeln!(page, "\n{left_out} more builds are not shown.");
    }
    let _ = writeln!(page, "\n{}\n", cell(last));
    let failed = rows.iter().filter(|row| !row.good);
    for row in failed.filter(|row| !row.last_words.is_empty()) {
        let section = format!(
            "<details><summary>{}</summary>\n\n<pre>\n{}</pre>\n\n</details>\n\n",
            cell(row.name),
            last_words(row.last_words)
        );
        if page.len() + section.len() > LARGEST {
            break;
        }
        page += &section;
    }
    page
}

/// One line of Markdown that shows a text as it is. A character reference is no markup (CommonMark,
/// section 2.5), so that links, images, HTML and cells are out of a guest's reach.
fn cell(text: &str) -> String {
    let mut cell = String::new();
    for char in plain(text).chars().take(LONGEST) {
        match char {
            '\n' | '\t' => cell.push(' '),
            char if char.is_ascii_punctuation() => {
                let _ = write!(cell, "&#{};", u32::from(char));
            }
            char => cell.push(char),
        }
    }
    cell
}

/// Returns lines about a failure as the inside of an HTML element, as far as they are not too long.
fn last_words(lines: &[String]) -> String {
    let mut words = String::new();
    for line in lines {
        let line = html(&plain(line));
        if words.len() + line.len() > LONGEST_WORDS {
            words.push_str("…\n");
            break;
        }
        words.push_str(&line);
        words.push('\n');
    }
    words
}

/// Text within an HTML element.
fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<'a>(file: Option<&'a Path>, title: &'a str, text: &'a str) -> Annotation<'a> {
        Annotation {
            level: Level::Error,
            file,
            line: Some(7),
            title,
            text,
        }
    }

    #[test]
    fn an_annotation_is_one_command_whatever_a_guest_wrote() {
        let file = Path::new("/home/me/a,b:c.toml");
        let guest = "no\n::add-path::/tmp\r\x1b[31m100%0A ##[x]\nhttp://me:s3cret@host/";
        let command = command(
            &error(Some(file), "x::y,line=1\n::z", guest),
            Some(Path::new("/home/me")),
        );
        assert_eq!(
            command,
            "::error title=x%3A%3Ay%2Cline=1%0A%3A%3Az,file=a%2Cb%3Ac.toml,line=7::no%0A::add-path::/tmp\
             100%250A ##[x]%0Ahttp://***@host/\n"
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "ü".repeat(3 * LONGEST);
        let command = command(&error(None, "t", &text), None);
        assert_eq!(command.matches('ü').count(), LONGEST);
        assert!(command.ends_with("…\n"), "{command}");
    }

    #[test]
    fn a_guest_writes_no_markup_into_the_summary() {
        let words = [
            String::from("</pre><script>x</script> http://me:s3cret@host/"),
            String::from("```\n| a |"),
        ];
        let page = page(
            "a batch",
            &[Row {
                name: "a|b",
                good: false,
                result: String::from("failed"),
                time: String::from("1 s"),
                reason: Some("![x](http://evil/y) <img src=x>\n| z | www.evil.com"),
                last_words: &words,
            }],
            "1 failed",
        );
        for markup in [
            "<script",
            "<img",
            "![",
            "](",
            "a|b",
            "http://evil",
            "www.evil",
            "s3cret",
        ] {
            assert!(!page.contains(markup), "{markup} is in {page}");
        }
        let row = page.lines().find(|line| line.starts_with("| ✗")).unwrap();
        assert_eq!(row.matches('|').count(), 6, "{row}");
        assert_eq!(page.matches("</pre>").count(), 1, "{page}");
    }

    #[test]
    fn the_summary_is_bounded() {
        let words = vec!["x".repeat(20_000); 40];
        let rows: Vec<Row<'_>> = (0..5000)
            .map(|_| Row {
                name: "build",
                good: false,
                result: String::from("failed"),
                time: String::new(),
                reason: Some(&words[0]),
                last_words: &words,
            })
            .collect();
        let page = page("t", &rows, "");
        assert!(page.len() < LARGEST, "{}", page.len());
        assert!(page.contains("more builds are not shown"));
    }
}
