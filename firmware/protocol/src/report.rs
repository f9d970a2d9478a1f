//! Reports of the guest on the control port, one line each.

use std::fmt;
use std::time::Duration;

use crate::line::PREFIX;

/// Longest [`Reason`], in bytes.
pub const MAX_REASON: usize = 1024;

/// A report. [`Display`](fmt::Display) writes the line without its line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// `phase NAME`: a phase begins.
    Phase(GuestPhase),
    /// `mark STEP MILLISECONDS`: a step of the boot was reached this long after the kernel's start.
    /// Written in whole milliseconds.
    Mark(BootStep, Duration),
    /// `beat TICKS`: sign of life every five seconds, with the processor time used so far in
    /// 1/100 s.
    Beat(u64),
    /// `ssh STATE`: the state of the guest's sshd, if it was asked for.
    Sshd(Sshd),
    /// `exit CODE`: the build's exit code.
    Exit(i32),
    /// `exhausted RESOURCE`: the guest has run out of something, once for each run.
    Exhausted(Resource),
    /// `checkpoint wanted`: kiwi's `prepare` is done, and the disk is frozen until the host answers.
    CheckpointWanted,
    /// `unfit REASON`: boxbuild's init cannot bring up this box; kiwi has not started.
    Unfit(Reason),
}

impl Report {
    /// Reads a line without its line feed. `None` for one that this version does not know: a newer
    /// guest side may say more.
    pub fn parse(line: &str) -> Option<Report> {
        let text = line.strip_prefix(PREFIX)?;
        if let Some(reason) = text.strip_prefix("unfit ") {
            return Some(Report::Unfit(Reason::new(reason)));
        }
        let mut words = text.split_ascii_whitespace();
        let (kind, value) = (words.next()?, words.next()?);
        Some(match kind {
            "phase" => Report::Phase(GuestPhase::parse(value)?),
            "mark" => Report::Mark(
                BootStep::parse(value)?,
                Duration::from_millis(words.next()?.parse().ok()?),
            ),
            "beat" => Report::Beat(value.parse().ok()?),
            "ssh" => Report::Sshd(Sshd::parse(value)?),
            "exhausted" => Report::Exhausted(Resource::parse(value)?),
            "exit" => Report::Exit(value.parse().ok()?),
            "checkpoint" if value == "wanted" => Report::CheckpointWanted,
            _ => return None,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        match self {
            Report::Phase(phase) => write!(f, "phase {phase}"),
            Report::Mark(step, uptime) => write!(f, "mark {step} {}", uptime.as_millis()),
            Report::Beat(ticks) => write!(f, "beat {ticks}"),
            Report::Sshd(state) => write!(f, "ssh {state}"),
            Report::Exhausted(resource) => write!(f, "exhausted {resource}"),
            Report::Exit(code) => write!(f, "exit {code}"),
            Report::CheckpointWanted => f.write_str("checkpoint wanted"),
            Report::Unfit(reason) => write!(f, "unfit {reason}"),
        }
    }
}

/// An enumeration whose variants are words on the wire.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$inner])* $variant,)+
        }

        impl $name {
            #[cfg(test)]
            const ALL: &[$name] = &[$($name::$variant,)+];

            fn parse(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $word,)+
                })
            }
        }
    };
}

words! {
    /// A phase of the guest's run, in order.
    GuestPhase {
        /// Root disk and shares are being mounted.
        Mount = "mount",
        /// Disk, shares and network are there. From here on, a failure is one of the build.
        Setup = "setup",
        /// kiwi builds.
        Build = "build",
        /// kiwi bundles the results.
        Bundle = "bundle",
        /// A shell runs on the console.
        Shell = "shell",
        /// Nothing is left but to power off.
        Done = "done",
    }
}

words! {
    /// A step of the boot.
    BootStep {
        /// boxbuild's init runs in the initial ramdisk, with the drivers that it needs.
        Init = "init",
        /// The root disk is mounted.
        Root = "root",
        /// Shares and network are there.
        Shares = "shares",
        /// kiwi is started.
        Kiwi = "kiwi",
    }
}

words! {
    /// Whether the guest can be reached by ssh.
    Sshd {
        /// Its sshd listens.
        Ready = "ready",
        /// It has no sshd.
        None = "none",
        /// Its sshd does not start.
        Failed = "failed",
    }
}

words! {
    /// What a guest can run out of.
    Resource {
        /// Memory: its kernel has killed a process.
        Memory = "memory",
        /// Space on its own disk.
        Disk = "disk",
        /// Memory for what its programs do all the time: they mostly wait for the kernel to read it
        /// again.
        WorkingMemory = "working-memory",
    }
}

/// Why a box cannot be brought up: one line of at most [`MAX_REASON`] bytes, without control
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Takes any text: control characters become spaces, the end of a long one is dropped.
    pub fn new(text: &str) -> Reason {
        let text = &text[..text.floor_char_boundary(MAX_REASON)];
        // A C1 control character has two bytes, the space that replaces it has one.
        Reason(text.replace(char::is_control, " "))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn report() -> impl Strategy<Value = Report> {
        prop_oneof![
            select(GuestPhase::ALL).prop_map(Report::Phase),
            (select(BootStep::ALL), any::<u64>())
                .prop_map(|(step, ms)| Report::Mark(step, Duration::from_millis(ms))),
            any::<u64>().prop_map(Report::Beat),
            select(Sshd::ALL).prop_map(Report::Sshd),
            select(Resource::ALL).prop_map(Report::Exhausted),
            any::<i32>().prop_map(Report::Exit),
            Just(Report::CheckpointWanted),
            any::<String>().prop_map(|text| Report::Unfit(Reason::new(&text))),
        ]
    }

    #[test]
    fn lines_of_the_contract() {
        for (line, report) in [
            ("phase bundle", Report::Phase(GuestPhase::Bundle)),
            ("phase done", Report::Phase(GuestPhase::Done)),
            ("beat 12", Report::Beat(12)),
            ("exit -1", Report::Exit(-1)),
            ("ssh none", Report::Sshd(Sshd::None)),
            ("checkpoint wanted", Report::CheckpointWanted),
            ("exhausted memory", Report::Exhausted(Resource::Memory)),
            (
                "mark root 412",
                Report::Mark(BootStep::Root, Duration::from_millis(412)),
            ),
            (
                "unfit no disk appeared",
                Report::Unfit(Reason::new("no disk appeared")),
            ),
        ] {
            let line = format!("boxbuild 1 {line}");
            assert_eq!(Report::parse(&line), Some(report.clone()), "{line}");
            assert_eq!(report.to_string(), line);
        }
    }

    #[test]
    fn unknown_lines_are_ignored() {
        for line in [
            "",
            "boxbuild 2 beat 1",
            "boxbuild 1",
            "boxbuild 1 ",
            "boxbuild 1 beat x",
            "boxbuild 1 beat 18446744073709551616",
            "boxbuild 1 mark nonsense 7",
            "boxbuild 1 mark root",
            "boxbuild 1 mark root -4",
            "boxbuild 1 phase elsewhere",
            "boxbuild 1 ssh ssh root@elsewhere",
            "hello",
        ] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }

    #[test]
    fn more_words_than_this_version_knows_are_tolerated() {
        let more = Report::parse("boxbuild 1 phase build  now");
        assert_eq!(more, Some(Report::Phase(GuestPhase::Build)));
    }

    #[test]
    fn a_reason_is_one_bounded_line() {
        let reason = Reason::new(&"ü\n".repeat(MAX_REASON));
        assert!(reason.as_str().len() <= MAX_REASON);
        assert!(!reason.as_str().contains('\n'));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(report in report()) {
            let line = report.to_string();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(Report::parse(&line), Some(report));
        }

        #[test]
        fn any_line_is_survived(text: String) {
            Report::parse(&text);
            Report::parse(&format!("{PREFIX}{text}"));
        }
    }
}
