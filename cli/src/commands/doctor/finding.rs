//! What the doctor found, for people and for programs.

use owo_colors::OwoColorize;
use serde::Serialize;

/// A requirement, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Name of the requirement.
    pub(super) subject: String,
    pub(super) need: Need,
    pub(super) state: State,
}

/// What needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Need {
    /// A build needs one of these.
    Engine,
    /// A build needs it.
    Build,
    /// Only some options or commands need it.
    Optional,
}

/// The state of a requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It is met; the text says what was found.
    Good(String),
    /// It is not met.
    Missing {
        /// What is wrong.
        problem: String,
        /// What to do, or what works without it.
        advice: String,
    },
}

/// Whether this host can build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can.
    Yes,
    /// It can, but in a container only.
    InContainers,
    /// It cannot; what is in the way.
    No(Vec<String>),
}

/// A finding in the document of `--json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    subject: &'a str,
    need: Need,
    good: bool,
    /// What was found, or what is wrong.
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a str>,
}

/// The document of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    can_build: bool,
    can_build_in_containers: bool,
    /// Subjects that are in the way.
    missing: Vec<String>,
    findings: Vec<Row<'a>>,
}

impl Finding {
    fn is_good(&self) -> bool {
        matches!(self.state, State::Good(_))
    }
}

/// Returns the verdict. A build needs an engine, and everything that is marked so.
pub(super) fn verdict(findings: &[Finding]) -> Verdict {
    let engines = findings.iter().filter(|found| found.need == Need::Engine);
    let engine = engines.clone().any(Finding::is_good);
    let others = findings.iter().filter(|found| found.need == Need::Build);
    let missing: Vec<String> = others
        .filter(|found| !found.is_good())
        .map(|found| found.subject.clone())
        .collect();
    let container = findings
        .iter()
        .any(|found| ["containers", "rootless"].contains(&&*found.subject) && found.is_good());
    match (engine, missing.is_empty()) {
        (true, true) => Verdict::Yes,
        (false, true) if container => Verdict::InContainers,
        (true, false) => Verdict::No(missing),
        (false, _) => Verdict::No(
            std::iter::once(String::from("engine"))
                .chain(missing)
                .collect(),
        ),
    }
}

/// Returns the findings for people, with colours.
pub(super) fn report(findings: &[Finding]) -> String {
    const INDENT: &str = "                         ";
    let mut text = String::new();
    for finding in findings {
        let (mark, words) = match &finding.state {
            State::Good(found) => ("ok     ".green().to_string(), found.clone()),
            State::Missing { problem, advice } => {
                let mark = if finding.need == Need::Build {
                    "missing".red().to_string()
                } else {
                    "missing".yellow().to_string()
                };
                (mark, format!("{problem}\n→ {advice}"))
            }
        };
        let words = words.replace('\n', &format!("\n{INDENT}"));
        text += &format!("{mark}  {:<14}  {words}\n", finding.subject);
    }
    text + &match verdict(findings) {
        Verdict::Yes => String::from("This host can build.\n"),
        Verdict::InContainers => String::from(
            "This host can build in containers only (--container), which are hardly isolated: no \
             engine works.\n",
        ),
        Verdict::No(missing) => format!(
            "This host cannot build yet. What is in the way: {}.\n",
            missing.join(", ")
        ),
    }
}

/// Returns the findings for programs.
pub(super) fn document(findings: &[Finding]) -> Document<'_> {
    let verdict = verdict(findings);
    Document {
        can_build: verdict == Verdict::Yes,
        can_build_in_containers: verdict == Verdict::InContainers
            || (verdict == Verdict::Yes
                && findings
                    .iter()
                    .any(|found| found.subject == "containers" && found.is_good())),
        missing: match verdict {
            Verdict::No(missing) => missing,
            Verdict::InContainers => vec![String::from("engine")],
            Verdict::Yes => Vec::new(),
        },
        findings: findings
            .iter()
            .map(|finding| {
                let (text, advice) = match &finding.state {
                    State::Good(found) => (found, None),
                    State::Missing { problem, advice } => (problem, Some(advice.as_str())),
                };
                Row {
                    subject: &finding.subject,
                    need: finding.need,
                    good: finding.is_good(),
                    text,
                    advice,
                }
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: &str, need: Need, good: bool) -> Finding {
        Finding {
            subject: subject.to_owned(),
            need,
            state: if good {
                State::Good(String::from("fine"))
            } else {
                State::Missing {
                    problem: String::from("line\nanother"),
                    advice: String::from("do it"),
                }
            },
        }
    }

    /// Case E6: a host without a usable store or box "can build".
    #[test]
    fn a_build_needs_an_engine_a_store_and_a_box() {
        let of = |kvm, qemu, store, boxes, containers| {
            verdict(&[
                finding("engine kvm", Need::Engine, kvm),
                finding("engine qemu", Need::Engine, qemu),
                finding("box store", Need::Build, store),
                finding("boxes", Need::Build, boxes),
                finding("containers", Need::Optional, containers),
                finding("box create", Need::Optional, false),
            ])
        };
        let no =
            |missing: &[&str]| Verdict::No(missing.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(of(true, false, true, true, false), Verdict::Yes);
        assert_eq!(of(false, true, true, true, true), Verdict::Yes);
        assert_eq!(of(true, true, true, false, true), no(&["boxes"]));
        assert_eq!(
            of(true, true, false, false, true),
            no(&["box store", "boxes"])
        );
        assert_eq!(of(false, false, true, true, false), no(&["engine"]));
        assert_eq!(of(false, false, true, true, true), Verdict::InContainers);
        assert_eq!(
            of(false, false, true, false, true),
            no(&["engine", "boxes"])
        );
    }

    #[test]
    fn every_finding_is_reported_with_its_advice() {
        let findings = [
            finding("engine kvm", Need::Engine, false),
            finding("boxes", Need::Build, true),
        ];
        let text = report(&findings);
        for word in [
            "missing",
            "another",
            "→ do it",
            "ok",
            "fine",
            "cannot build",
        ] {
            assert!(text.contains(word), "{word} is not in {text}");
        }
        let json = serde_json::to_value(document(&findings)).unwrap();
        assert_eq!(json["can_build"], false);
        assert_eq!(json["missing"][0], "engine");
        assert_eq!(json["findings"][0]["advice"], "do it");
        assert_eq!(json["findings"][1]["good"], true);
    }
}
