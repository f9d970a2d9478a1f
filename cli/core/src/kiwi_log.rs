//! Following a build: the log that the guest writes into its share, the reports on the
//! control port, and the phases that both tell of.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use boxbuild_protocol::report::GuestPhase;

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
    /// The build has ended; the user is at the box's console.
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

impl From<GuestPhase> for Phase {
    fn from(phase: GuestPhase) -> Phase {
        match phase {
            GuestPhase::Mount | GuestPhase::Setup => Phase::Boot,
            GuestPhase::Build => Phase::Prepare,
            GuestPhase::Bundle => Phase::Bundle,
            GuestPhase::Shell => Phase::Shell,
            GuestPhase::Done => Phase::PowerOff,
        }
    }
}

/// Returns the phase that begins with a line of `result.log`. The messages are those of kiwi's
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
    fn phases_of_log_lines() {
        let line = "[ INFO    ]: 10:11:12 | Creating system image";
        assert_eq!(phase_of_log_line(line), Some(Phase::Create));
        assert_eq!(
            phase_of_log_line("[ DEBUG   ]: 10:11:12 | EXEC: [tar]"),
            None
        );
    }

    #[test]
    fn a_guest_that_only_beats_does_not_work() {
        let mut pulse = Pulse::default();
        assert!(pulse.beat(100));
        assert!(!pulse.beat(103));
        assert!(pulse.beat(203));
    }
}
