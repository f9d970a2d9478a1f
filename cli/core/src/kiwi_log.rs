//! Following a build: the log that the guest writes into its share, the reports on the
//! control port, and the phases that both tell of.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_host::file::open_regular;
use boxbuild_host::text::plain;

/// Longest line that is kept; the rest of a longer one is dropped. In bytes.
const LONGEST_LINE: usize = 16 << 10;

/// Splits a byte stream into lines.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes, calls `line` for each complete line, without its end and without
    /// control sequences.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (body, complete) = match piece.strip_suffix(b"\n") {
                Some(body) => (body, true),
                None => (piece, false),
            };
            let room = LONGEST_LINE - self.partial.len();
            self.partial
                .extend_from_slice(&body[..body.len().min(room)]);
            if complete {
                line(&plain(&self.partial));
                self.partial.clear();
            }
        }
    }

    /// The incomplete last line, if there is one.
    pub fn rest(&mut self) -> Option<String> {
        let rest = plain(&self.partial);
        self.partial.clear();
        Some(rest).filter(|rest| !rest.is_empty())
    }
}

/// Reads what a growing file has gained.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    lines: Lines,
}

impl Tail {
    /// Follows `path`, which need not exist yet.
    pub fn new(path: &Path) -> Tail {
        Tail {
            path: path.to_owned(),
            file: None,
            lines: Lines::default(),
        }
    }

    /// Calls `line` for each new line. Returns whether the file has grown.
    pub fn poll(&mut self, mut line: impl FnMut(&str)) -> io::Result<bool> {
        if self.file.is_none() {
            match open_regular(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(false);
        };
        let mut grown = false;
        let mut buffer = [0; 16 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(grown),
                count => {
                    grown = true;
                    self.lines.push(&buffer[..count], &mut line);
                }
            }
        }
    }

    /// The incomplete last line, if there is one.
    pub fn rest(&mut self) -> Option<String> {
        self.lines.rest()
    }
}

/// A stage of the build, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// From power-on to kiwi's first line.
    Boot,
    /// kiwi installs packages into the root tree and runs the description's scripts.
    Prepare,
    /// kiwi makes the image from the root tree.
    Create,
    /// The result files go to the target directory.
    Bundle,
    /// The build has ended; somebody sits at the box's console.
    Shell,
    /// The guest has nothing left to do but to power off.
    PowerOff,
}

impl Phase {
    /// A short name for progress lines and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Boot => "boot",
            Phase::Prepare => "prepare",
            Phase::Create => "create",
            Phase::Bundle => "bundle",
            Phase::Shell => "shell",
            Phase::PowerOff => "power off",
        }
    }
}

/// What a line of `result.log` says of the phase. The messages are those of kiwi's
/// `SystemBuildTask`, `SystemPrepare` and `ResultBundleTask`.
pub fn phase_of_log_line(line: &str) -> Option<Phase> {
    let message = line.split_once(" | ").map_or(line, |(_, message)| message);
    if message.starts_with("Creating system image") {
        Some(Phase::Create)
    } else if message.starts_with("Bundle build results") {
        Some(Phase::Bundle)
    } else if message.starts_with("Preparing system") || message.starts_with("Setup root directory")
    {
        Some(Phase::Prepare)
    } else {
        None
    }
}

/// A report of the guest on the control port. Unknown ones are `None`: a newer guest side
/// may say more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A phase begins.
    Phase(Phase),
    /// Disk, shares and network are there.
    SetUp,
    /// boxbuild's init cannot bring up this box, for this reason.
    Unfit(String),
    /// A step of the boot was reached, this time after the kernel's start.
    Mark(String, Duration),
    /// Sign of life, with the processor time used so far in ticks.
    Beat(u64),
    /// The build's exit code.
    Exit(i32),
    /// What came of the box's sshd.
    Sshd(Sshd),
}

/// Whether the box can be reached by ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sshd {
    /// It can.
    Ready,
    /// It has no sshd.
    None,
    /// It has one that does not start.
    Failed,
}

impl Report {
    /// Reads `boxbuild 1 WORD [VALUE]` (docs/guest-contract.md).
    pub fn parse(line: &str) -> Option<Report> {
        let text = line.strip_prefix("boxbuild 1 ")?;
        if let Some(reason) = text.strip_prefix("unfit ") {
            return Some(Report::Unfit(reason.to_owned()));
        }
        let mut words = text.split_ascii_whitespace();
        let report = match (words.next()?, words.next()) {
            ("phase", Some("boot" | "mount")) => Report::Phase(Phase::Boot),
            ("phase", Some("setup")) => Report::SetUp,
            ("phase", Some("build")) => Report::Phase(Phase::Prepare),
            ("phase", Some("bundle")) => Report::Phase(Phase::Bundle),
            ("phase", Some("shell")) => Report::Phase(Phase::Shell),
            ("phase", Some("done")) => Report::Phase(Phase::PowerOff),
            ("mark", Some(step)) => Report::Mark(
                step.to_owned(),
                Duration::from_millis(words.next()?.parse().ok()?),
            ),
            ("beat", Some(ticks)) => Report::Beat(ticks.parse().ok()?),
            ("ssh", Some("ready")) => Report::Sshd(Sshd::Ready),
            ("ssh", Some("none")) => Report::Sshd(Sshd::None),
            ("ssh", Some("failed")) => Report::Sshd(Sshd::Failed),
            ("exit", Some(code)) => Report::Exit(code.parse().ok()?),
            _ => return None,
        };
        Some(report)
    }
}

/// Decides whether a beat is a sign of *work*: a guest that only beats is hung.
#[derive(Debug, Default)]
pub struct Pulse {
    last: Option<u64>,
}

impl Pulse {
    /// Ticks (of 10 ms) per beat (of 5 s) below which a guest counts as idle: 2 % of one CPU.
    const IDLE_TICKS: u64 = 10;

    /// Takes a beat; true if the guest worked since the last one.
    pub fn beat(&mut self, ticks: u64) -> bool {
        let worked = self
            .last
            .is_none_or(|last| ticks.saturating_sub(last) >= Self::IDLE_TICKS);
        self.last = Some(ticks);
        worked
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_whole_and_harmless() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for chunk in [
            &b"one\r\ntw"[..],
            b"o\n\x1b[31mred\x1b[0m\x1b]0;t\x07\n",
            b"\xff\nlast",
        ] {
            lines.push(chunk, |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["one", "two", "red0;t", "\u{fffd}"]);
        assert_eq!(lines.rest().as_deref(), Some("last"));
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            lines.push(&[b'x'; 4096], |_| unreachable!());
        }
        assert_eq!(lines.rest().map(|line| line.len()), Some(LONGEST_LINE));
    }

    #[test]
    fn a_tail_sees_what_is_added_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.log");
        let mut tail = Tail::new(&path);
        assert!(!tail.poll(|_| unreachable!()).unwrap());
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a\nb").unwrap();
        let mut seen = Vec::new();
        assert!(tail.poll(|line| seen.push(line.to_owned())).unwrap());
        file.write_all(b"c\n").unwrap();
        assert!(tail.poll(|line| seen.push(line.to_owned())).unwrap());
        assert!(!tail.poll(|_| unreachable!()).unwrap());
        assert_eq!(seen, ["a", "bc"]);

        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        assert!(Tail::new(&link).poll(|_| unreachable!()).is_err());
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Tail::new(&fifo).poll(|_| unreachable!()).is_err());
    }

    #[test]
    fn phases_and_reports() {
        let line = "[ INFO    ]: 10:11:12 | Creating system image";
        assert_eq!(phase_of_log_line(line), Some(Phase::Create));
        assert_eq!(
            phase_of_log_line("[ DEBUG   ]: 10:11:12 | EXEC: [tar]"),
            None
        );
        assert_eq!(Report::parse("boxbuild 1 beat 12"), Some(Report::Beat(12)));
        assert_eq!(
            Report::parse("boxbuild 1 phase bundle"),
            Some(Report::Phase(Phase::Bundle))
        );
        assert_eq!(Report::parse("boxbuild 1 exit -1"), Some(Report::Exit(-1)));
        assert_eq!(
            Report::parse("boxbuild 1 ssh none"),
            Some(Report::Sshd(Sshd::None))
        );
        assert_eq!(
            Report::parse("boxbuild 1 mark root 412"),
            Some(Report::Mark("root".into(), Duration::from_millis(412)))
        );
        assert_eq!(
            Report::parse("boxbuild 1 unfit no disk appeared"),
            Some(Report::Unfit("no disk appeared".into()))
        );
        for noise in [
            "",
            "boxbuild 2 beat 1",
            "boxbuild 1",
            "boxbuild 1 beat x",
            "boxbuild 1 ssh ssh root@elsewhere",
            "hello",
        ] {
            assert_eq!(Report::parse(noise), None, "{noise}");
        }
    }

    #[test]
    fn a_guest_that_only_beats_does_not_work() {
        let mut pulse = Pulse::default();
        assert!(pulse.beat(100));
        assert!(!pulse.beat(103));
        assert!(pulse.beat(203));
    }
}
