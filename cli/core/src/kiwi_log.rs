//! Following a build: the log that the guest writes into its share, the reports on the
//! control port, and the phases that both tell of.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use boxbuild_host::text::plain;
use boxbuild_host::untrusted::Dir;
use boxbuild_protocol::report::GuestPhase;

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

    /// Takes bytes, and writes each complete line.
    ///
    /// # Errors
    /// Fails if one cannot be written.
    pub fn write(&mut self, bytes: &[u8], target: &mut impl Write) -> io::Result<()> {
        let mut written = Ok(());
        self.push(bytes, |line| {
            if written.is_ok() {
                written = writeln!(target, "{line}");
            }
        });
        written
    }

    /// The incomplete last line, if there is one.
    pub fn rest(&mut self) -> Option<String> {
        let rest = plain(&self.partial);
        self.partial.clear();
        Some(rest).filter(|rest| !rest.is_empty())
    }
}

/// What is read of a log in one go, in bytes and in time: the log is the guest's, which may write
/// nothing but ends of lines, or a hole of any length.
const PIECE: u64 = 256 << 10;
const PIECE_TIME: Duration = Duration::from_millis(100);

/// What is left unread of a log, at most, while it grows; and at its end. In bytes.
const BACKLOG: u64 = 64 << 20;
const LAST: u64 = 1 << 20;

/// What a look at a growing file has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gained {
    /// It has grown.
    pub grown: bool,
    /// There is more to read.
    pub more: bool,
    /// Bytes that were passed over.
    pub skipped: u64,
}

/// Reads what a growing file of a guest's has gained.
#[derive(Debug)]
pub struct Tail {
    folder: Dir,
    name: OsString,
    file: Option<File>,
    position: u64,
    lines: Lines,
}

impl Tail {
    /// Follows the file `name` in `folder`, which need not exist yet.
    pub fn new(folder: Dir, name: &OsStr) -> Tail {
        Tail {
            folder,
            name: name.to_owned(),
            file: None,
            position: 0,
            lines: Lines::default(),
        }
    }

    /// Calls `line` for each new line, as far as one look goes.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub fn poll(&mut self, line: impl FnMut(&str)) -> io::Result<Gained> {
        self.read(BACKLOG, line)
    }

    /// The same for a file that does not grow any more: what comes long before its end is passed over.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub fn poll_end(&mut self, line: impl FnMut(&str)) -> io::Result<Gained> {
        self.read(LAST, line)
    }

    fn read(&mut self, backlog: u64, mut line: impl FnMut(&str)) -> io::Result<Gained> {
        let mut gained = Gained::default();
        let Some(file) = self.open()? else {
            return Ok(gained);
        };
        let unread = file.metadata()?.len().saturating_sub(self.position);
        if unread > backlog {
            gained.skipped = unread - LAST;
            self.position += gained.skipped;
            // The rest of a line that has not been seen.
            self.lines = Lines::default();
        }
        let began = Instant::now();
        let mut buffer = [0; 16 << 10];
        let mut read = 0;
        while read < PIECE && began.elapsed() < PIECE_TIME {
            match file.read_at(&mut buffer, self.position) {
                Ok(0) => return Ok(gained),
                Ok(count) => {
                    gained.grown = true;
                    read += count as u64;
                    self.position += count as u64;
                    self.lines.push(&buffer[..count], &mut line);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        gained.more = true;
        Ok(gained)
    }

    fn open(&mut self) -> io::Result<Option<File>> {
        if self.file.is_none() {
            match self.folder.file(&self.name) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.file.as_ref().map(File::try_clone).transpose()
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

    fn tail(dir: &tempfile::TempDir, name: &str) -> Tail {
        Tail::new(Dir::open(dir.path()).unwrap(), name.as_ref())
    }

    #[test]
    fn a_tail_sees_what_is_added_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.log");
        let mut log = tail(&dir, "result.log");
        assert!(!log.poll(|_| unreachable!()).unwrap().grown);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"a\nb").unwrap();
        let mut seen = Vec::new();
        assert!(log.poll(|line| seen.push(line.to_owned())).unwrap().grown);
        file.write_all(b"c\n").unwrap();
        assert!(log.poll(|line| seen.push(line.to_owned())).unwrap().grown);
        assert!(!log.poll(|_| unreachable!()).unwrap().grown);
        assert_eq!(seen, ["a", "bc"]);

        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(tail(&dir, "link").poll(|_| unreachable!()).is_err());
        nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(tail(&dir, "fifo").poll(|_| unreachable!()).is_err());
    }

    /// Fault 6: every line was in memory at once, 24 bytes for each byte.
    #[test]
    fn a_log_of_nothing_but_ends_of_lines_is_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("log"), vec![b'\n'; 4 << 20]).unwrap();
        let mut log = tail(&dir, "log");
        let (mut lines, mut looks) = (0, 0);
        loop {
            let before = lines;
            let gained = log.poll(|_| lines += 1).unwrap();
            assert!(lines - before <= PIECE + (16 << 10), "{}", lines - before);
            looks += 1;
            if !gained.more {
                break;
            }
        }
        assert_eq!(lines, 4 << 20);
        assert!(looks > 10, "{looks}");
    }

    /// Fault 9: a log with a hole of 16 TB kept the host reading.
    #[test]
    fn a_log_with_a_hole_of_terabytes_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("log")).unwrap();
        // The longest file of ext4 with blocks of 4 KiB.
        let length = (16 << 40) - (4 << 10);
        file.set_len(length - 5).unwrap();
        file.write_all_at(b"\nlast", length - 5).unwrap();
        for end in [false, true] {
            let mut log = tail(&dir, "log");
            let began = Instant::now();
            let mut skipped = 0;
            loop {
                let gained = if end {
                    log.poll_end(|_| {})
                } else {
                    log.poll(|_| {})
                };
                let gained = gained.unwrap();
                skipped += gained.skipped;
                if !gained.more {
                    break;
                }
            }
            assert_eq!(skipped, length - LAST);
            assert_eq!(log.rest().as_deref(), Some("last"));
            assert!(began.elapsed() < Duration::from_secs(10));
        }
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
