//! The report of a batch as JUnit's XML, which systems that run jobs show (`--junit`): a test case for
//! each build.
//!
//! JUnit has no schema of its own; elements and attributes are those that Jenkins' has
//! (tests/junit-10.xsd), and Ant's. What a guest wrote is in the text of `failure` and `error` only:
//! some systems take files by what they find in `system-out`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use boxbuild_host::secret;
use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::umask::umask;
use boxbuild_host::untrusted::{Dir, Replacement};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::check::CheckedBuild;
use super::outcome::{Outcome, Verdict};

/// Where a report goes: a file that is written at the end, as a whole.
#[derive(Debug)]
pub(super) struct ReportFile {
    path: PathBuf,
    /// Its folder, opened before any guest ran.
    folder: Dir,
    name: OsString,
}

impl ReportFile {
    /// Finds the place for the file `path`, and changes nothing.
    ///
    /// # Errors
    /// Fails, with a message for the user, if no file can be written there.
    pub(super) fn find(path: &Path) -> Result<ReportFile, String> {
        let problem = |why: &str| format!("--junit {}: {why}", shown_path(path));
        let whole = std::path::absolute(path).map_err(|error| problem(&error.to_string()))?;
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(problem("not the name of a file"));
        };
        // A report takes the place of a file, but not of a device or a link to one.
        match fs::metadata(&whole) {
            Ok(found) if found.is_dir() => return Err(problem("a folder: name a file in it")),
            Ok(found) if !found.is_file() => {
                return Err(problem("not a regular file: choose another name"));
            }
            _ => {}
        }
        let folder = Dir::open(parent).map_err(|error| {
            problem(&format!(
                "cannot open the folder {}: {error}",
                shown_path(parent)
            ))
        })?;
        let access = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
        nix::unistd::access(parent, access)
            .map_err(|_| problem("no permission to write into its folder"))?;
        Ok(ReportFile {
            path: whole.clone(),
            folder,
            name: name.to_owned(),
        })
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the report in the place of an earlier one.
    pub(super) fn write(&self, report: &Report<'_>) -> io::Result<()> {
        let text = report.xml()?;
        Replacement::write(&self.folder, &self.name, &text, 0o666 & !umask())
    }
}

/// How a batch ended.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// Name of the batch.
    pub(super) name: &'a str,
    pub(super) builds: &'a [CheckedBuild],
    pub(super) outcomes: &'a [Outcome],
    pub(super) total: Duration,
    pub(super) began: SystemTime,
}

/// Which element tells how a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Passed,
    /// The build is wrong.
    Failure,
    /// The host, the box or the batch is.
    Error,
    Skipped,
}

impl Kind {
    fn of(verdict: Verdict) -> Kind {
        use crate::exit_code::ExitCode;
        match verdict {
            Verdict::Built => Kind::Passed,
            Verdict::Failed(ExitCode::USAGE | ExitCode::HOST) | Verdict::Killed(_) => Kind::Error,
            Verdict::Failed(_) => Kind::Failure,
            Verdict::Stopped | Verdict::NotStarted => Kind::Skipped,
        }
    }

    fn element(self) -> Option<&'static str> {
        match self {
            Kind::Passed => None,
            Kind::Failure => Some("failure"),
            Kind::Error => Some("error"),
            Kind::Skipped => Some("skipped"),
        }
    }
}

impl Report<'_> {
    /// Returns the report.
    fn xml(&self) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
        let count = |kind: Kind| {
            let kinds = self
                .outcomes
                .iter()
                .map(|outcome| Kind::of(outcome.verdict));
            kinds.filter(|found| *found == kind).count().to_string()
        };
        let tests = self.outcomes.len().to_string();
        let (failures, errors) = (count(Kind::Failure), count(Kind::Error));
        let (time, skipped) = (seconds(self.total), count(Kind::Skipped));
        // Without a zone, which Ant's form has not: it is UTC.
        let began = humantime::format_rfc3339_seconds(self.began).to_string();
        let totals = [
            ("name", characters(self.name)),
            ("tests", tests),
            ("failures", failures),
            ("errors", errors),
            ("time", time),
        ];
        let totals = || totals.iter().map(|(name, value)| (*name, value.as_str()));
        writer
            .create_element("testsuites")
            .with_attributes(totals())
            .write_inner_content(|writer| {
                writer
                    .create_element("testsuite")
                    .with_attributes(totals())
                    .with_attribute(("skipped", skipped.as_str()))
                    .with_attribute(("timestamp", began.trim_end_matches('Z')))
                    .write_inner_content(|writer| {
                        let mut both = self.builds.iter().zip(self.outcomes);
                        both.try_for_each(|(build, outcome)| self.case(writer, build, outcome))
                    })?;
                Ok(())
            })?;
        let mut text = writer.into_inner();
        text.push(b'\n');
        Ok(text)
    }

    fn case(
        &self,
        writer: &mut Writer<Vec<u8>>,
        build: &CheckedBuild,
        outcome: &Outcome,
    ) -> io::Result<()> {
        let (name, suite) = (characters(&build.name), characters(self.name));
        let time = seconds(outcome.time);
        let case = writer.create_element("testcase").with_attributes([
            ("name", name.as_str()),
            ("classname", suite.as_str()),
            ("time", time.as_str()),
        ]);
        case.write_inner_content(|writer| {
            if let Some(element) = Kind::of(outcome.verdict).element() {
                let result = outcome.verdict.describe();
                let reason = outcome.progress.reason.as_deref();
                let message = characters(reason.unwrap_or(&result));
                let message = message.lines().next().unwrap_or_default();
                let element = writer
                    .create_element(element)
                    .with_attributes([("message", message), ("type", outcome.verdict.word())]);
                let words = characters(&outcome.progress.last_words.join("\n"));
                element.write_text_content(BytesText::new(&words))?;
            }
            if let Some(log) = &outcome.log {
                let text = format!(
                    "log: {}\ntarget folder: {}",
                    shown_path(log),
                    shown(&build.target_dir.to_string_lossy())
                );
                writer
                    .create_element("system-out")
                    .write_text_content(BytesText::new(&characters(&text)))?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Text without secrets and without the characters that XML cannot have, not even as references (XML
/// 1.0, section 2.2), nor those that do something to a terminal.
fn characters(text: &str) -> String {
    let text = secret::redact(text);
    let lines = text
        .lines()
        .map(|line| boxbuild_host::text::plain(line.as_bytes()));
    let text = lines.collect::<Vec<_>>().join("\n");
    text.chars()
        .map(|char| match char {
            '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
            char => char,
        })
        .collect()
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::commands::batch::build_progress::BuildProgress;
    use crate::exit_code::ExitCode;

    fn build(name: &str) -> CheckedBuild {
        CheckedBuild {
            name: name.to_owned(),
            target_dir: PathBuf::from("/out"),
            ..crate::commands::batch::check::tests::build("small", false)
        }
    }

    fn outcome(verdict: Verdict, reason: Option<&str>, words: &[&str]) -> Outcome {
        Outcome {
            verdict,
            time: Duration::from_millis(61_234),
            progress: BuildProgress {
                reason: reason.map(str::to_owned),
                last_words: words.iter().map(|word| (*word).to_owned()).collect(),
                ..BuildProgress::default()
            },
            log: (verdict != Verdict::NotStarted).then(|| PathBuf::from("/logs/a\u{1b}.log")),
            ..Outcome::not_started()
        }
    }

    fn xml() -> String {
        let names = ["good", "bad <&\"'>", "host", "killed", "stopped", "never"];
        let builds: Vec<CheckedBuild> = names.iter().map(|name| build(name)).collect();
        let guest = "]]></failure><x> \u{1b}[31m \u{0}\u{8}\u{b}\u{fffe}\u{ffff}\u{85} ü\n\
                     http://me:s3cret@host/";
        let outcomes = [
            outcome(Verdict::Built, None, &[]),
            outcome(
                Verdict::Failed(ExitCode::BUILD_FAILED),
                Some(guest),
                &[guest, "[[ATTACHMENT|/x]]"],
            ),
            outcome(Verdict::Failed(ExitCode::HOST), Some("no disk"), &[]),
            outcome(Verdict::Killed(9), None, &[]),
            outcome(Verdict::Stopped, None, &[]),
            outcome(Verdict::NotStarted, None, &[]),
        ];
        let report = Report {
            name: "images",
            builds: &builds,
            outcomes: &outcomes,
            total: Duration::from_secs(3600),
            began: SystemTime::UNIX_EPOCH,
        };
        String::from_utf8(report.xml().unwrap()).unwrap()
    }

    #[test]
    fn every_build_is_a_test_case() {
        let xml = xml();
        let document =
            roxmltree::Document::parse(&xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
        let root = document.root_element();
        for node in [root, root.first_element_child().unwrap()] {
            for (name, value) in [
                ("tests", "6"),
                ("failures", "1"),
                ("errors", "2"),
                ("time", "3600.000"),
            ] {
                assert_eq!(node.attribute(name), Some(value), "{name}: {xml}");
            }
        }
        let suite = root.first_element_child().unwrap();
        assert_eq!(suite.attribute("skipped"), Some("2"));
        assert_eq!(suite.attribute("timestamp"), Some("1970-01-01T00:00:00"));
        let cases: Vec<_> = suite
            .children()
            .filter(|node| node.has_tag_name("testcase"))
            .collect();
        assert_eq!(cases.len(), 6);
        assert_eq!(cases[1].attribute("name"), Some("bad <&\"'>"));
        assert_eq!(cases[1].attribute("time"), Some("61.234"));
        let how: Vec<Option<&str>> = cases
            .iter()
            .map(|case| {
                let mut nodes = case.children().filter(roxmltree::Node::is_element);
                let how = nodes.find(|node| !node.has_tag_name("system-out"));
                how.map(|node| node.tag_name().name())
            })
            .collect();
        let (failure, error, skipped) = (Some("failure"), Some("error"), Some("skipped"));
        assert_eq!(how, [None, failure, error, error, skipped, skipped]);
    }

    #[test]
    fn what_a_guest_wrote_is_text_and_nothing_else() {
        let xml = xml();
        assert!(
            !xml.contains("s3cret") && xml.contains("http://***@host/"),
            "{xml}"
        );
        let fine = |char: char| char == '\n' || !char.is_control();
        assert!(xml.chars().all(fine), "{xml:?}");
        let document = roxmltree::Document::parse(&xml).unwrap();
        let failure = document
            .descendants()
            .find(|node| node.has_tag_name("failure"))
            .unwrap();
        let text = failure.text().unwrap();
        assert!(
            text.contains("]]></failure><x>") && text.contains('ü'),
            "{text:?}"
        );
        // Jenkins and GitLab take files that system-out names.
        for node in document
            .descendants()
            .filter(|node| node.has_tag_name("system-out"))
        {
            assert!(!node.text().unwrap().contains("ATTACHMENT"));
        }
    }

    #[test]
    fn the_report_is_valid_by_the_schema_of_jenkins() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report.xml");
        fs::write(&file, xml()).unwrap();
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/junit-10.xsd");
        let mut lint = std::process::Command::new("xmllint");
        let lint = lint
            .args(["--noout", "--nonet", "--schema"])
            .arg(&schema)
            .arg(&file);
        let Ok(output) = lint.output() else {
            // Not by a macro, whose text the test harness keeps.
            let _ = writeln!(
                io::stderr(),
                "skipped: the_report_is_valid_by_the_schema_of_jenkins: xmllint is not installed \
                 (make packages-test)"
            );
            return;
        };
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_place_without_room_for_a_report_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        for (path, why) in [
            (dir.path().to_owned(), "a folder"),
            (dir.path().join("not/there.xml"), "cannot open the folder"),
            (PathBuf::from("/dev/null"), "not a regular file"),
            (PathBuf::from("/"), "not the name of a file"),
        ] {
            let problem = ReportFile::find(&path).unwrap_err();
            assert!(problem.contains(why), "{problem}");
        }
        let file = dir.path().join("report.xml");
        assert!(ReportFile::find(&file).is_ok());
        assert!(!file.exists(), "nothing is changed yet");
    }
}
