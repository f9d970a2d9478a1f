//! Copies of kiwi's log, which is the guest's: of any length, with holes of any length.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::umask::umask;
use boxbuild_host::untrusted::{Dir, Replacement};

use crate::kiwi_log::Lines;
use crate::output_dir::TargetDir;

/// Longest log that is copied as a whole, in bytes; of a longer one, the end. kiwi's have some megabytes.
const LONGEST: u64 = 256 << 20;

/// Bytes that are copied at a time.
const BLOCK: usize = 256 << 10;

/// Copies `log` into `copy`; of one that is too long, the end. `stop` is asked after each block.
///
/// # Errors
/// Fails if one cannot be read or the other written, or `stop` says to stop.
pub fn copy(log: &File, copy: &mut File, stop: &StopCheck) -> io::Result<()> {
    pieces(log, stop, |piece| copy.write_all(piece))
}

/// Shows the log on a terminal, to which it must do nothing.
fn show(log: &File, terminal: &mut File, stop: &StopCheck) -> io::Result<()> {
    let mut lines = Lines::default();
    let mut terminal = io::LineWriter::new(terminal);
    pieces(log, stop, |piece| lines.write(piece, &mut terminal))?;
    lines
        .rest()
        .map_or(Ok(()), |rest| writeln!(terminal, "{rest}"))
}

/// Hands the log on in pieces; of one that is too long, the end.
fn pieces(
    log: &File,
    stop: &StopCheck,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let length = log.metadata()?.len();
    let mut position = length.saturating_sub(LONGEST);
    if position > 0 {
        take(format!("[boxbuild: the first {position} bytes are left out]\n").as_bytes())?;
    }
    let mut buffer = vec![0; BLOCK];
    while position < length {
        stop.check().map_err(io::Error::other)?;
        match log.read_at(&mut buffer, position) {
            Ok(0) => break,
            Ok(count) => {
                take(&buffer[..count])?;
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where `--logfile` copies the log to. It is found before a guest runs, which may be able to write
/// into the folders of its path.
#[derive(Debug)]
pub struct LogCopy {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A regular file, which may not exist yet: it appears as a whole.
    File { folder: Dir, name: OsString },
    /// A terminal, a pipe or the like, which is written to.
    Stream(File),
}

impl LogCopy {
    /// Finds the place of `path`, an absolute path.
    ///
    /// # Errors
    /// Fails if there is no such folder, or nothing can be written there.
    pub fn find(path: &Path, target: &TargetDir) -> Result<LogCopy, IoError> {
        let place = place(path, target).map_err(IoError::on_named("copy the log to", path))?;
        Ok(LogCopy {
            path: path.to_owned(),
            place,
        })
    }

    /// Copies `log` there.
    ///
    /// # Errors
    /// Fails if that is not possible, or `stop` says to stop.
    pub fn write(self, log: &File, stop: &StopCheck) -> Result<(), IoError> {
        let copied = match self.place {
            Place::Stream(mut stream) if stream.is_terminal() => show(log, &mut stream, stop),
            Place::Stream(mut stream) => copy(log, &mut stream, stop),
            Place::File { folder, name } => Replacement::begin(&folder, &name, 0o666 & !umask())
                .and_then(|mut new| {
                    copy(log, new.file(), stop)?;
                    new.finish(&name)
                }),
        };
        copied.map_err(IoError::on("copy the log to", &self.path))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the user names it, and no guest has run yet"
)]
fn place(path: &Path, target: &TargetDir) -> io::Result<Place> {
    let file = |folder: Dir, path: &Path| {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        Ok(Place::File {
            folder,
            name: name.to_owned(),
        })
    };
    if path.parent() == Some(target.path()) {
        // Links in there may be of an earlier guest.
        return file(target.dir().try_clone()?, path);
    }
    // /dev/stdout and the like are links to what is open already, whatever that is.
    let is_open = (path.starts_with("/dev") || path.starts_with("/proc")) && path.is_symlink();
    match path.metadata() {
        Ok(metadata) if metadata.is_file() && !is_open => {
            // Where a link of the user's leads.
            let path = path.canonicalize()?;
            file(Dir::open(path.parent().unwrap_or(Path::new("/")))?, &path)
        }
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) => {
            let mut options = File::options();
            options.append(true);
            if metadata.file_type().is_fifo() {
                // With both ends open, it does not wait for a reader (fifo(7)).
                options.read(true);
            }
            options.custom_flags(libc::O_NOCTTY);
            options.open(path).map(Place::Stream)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            file(Dir::open(parent)?, path)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use boxbuild_host::interrupt::Interrupt;
    use boxbuild_host::stop::Stopped;

    use super::*;

    #[test]
    fn a_log_with_a_hole_of_terabytes_is_copied_in_part_and_can_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        log.set_len(15 << 40).unwrap();
        log.write_all_at(b"last", (15 << 40) - 4).unwrap();
        let log = File::open(dir.path().join("log")).unwrap();
        let to = || File::create(dir.path().join("copy")).unwrap();
        let interrupt = Interrupt::default();
        copy(&log, &mut to(), &StopCheck::new(&interrupt, None)).unwrap();
        let copied = fs::metadata(dir.path().join("copy")).unwrap().len();
        assert!(copied < LONGEST + 100, "{copied}");
        interrupt.request();
        let error = copy(&log, &mut to(), &StopCheck::new(&interrupt, None)).unwrap_err();
        assert_eq!(Stopped::of(&error), Some(Stopped::Interrupted));
    }

    /// Fault 8, and the other end of the copy: what a guest puts there while it runs.
    #[test]
    fn a_link_that_appears_later_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let target = TargetDir::acquire(&path("target")).unwrap();
        fs::write(path("log"), "log").unwrap();
        fs::write(path("precious"), "mine").unwrap();
        fs::create_dir(path("shared")).unwrap();
        fs::create_dir(path("other")).unwrap();
        let copies = [
            path("shared/copy"),
            path("target/copy"),
            path("shared/copy2"),
        ];
        let found = copies
            .iter()
            .map(|path| LogCopy::find(path, &target).unwrap());
        let found: Vec<LogCopy> = found.collect();
        for copy in &copies[..2] {
            symlink(path("precious"), copy).unwrap();
        }
        for (copy, place) in copies.iter().zip(found) {
            if copy.ends_with("copy2") {
                fs::rename(path("shared"), path("was shared")).unwrap();
                symlink("other", path("shared")).unwrap();
            }
            place
                .write(&File::open(path("log")).unwrap(), &StopCheck::default())
                .unwrap();
        }
        assert_eq!(fs::read_to_string(path("precious")).unwrap(), "mine");
        assert_eq!(fs::read_dir(path("other")).unwrap().count(), 0);
        for copy in ["was shared/copy", "was shared/copy2", "target/copy"] {
            assert!(path(copy).symlink_metadata().unwrap().is_file(), "{copy}");
        }
    }

    #[test]
    fn a_log_does_nothing_to_the_terminal_that_it_is_copied_to() {
        let dir = tempfile::tempdir().unwrap();
        let target = TargetDir::acquire(&dir.path().join("target")).unwrap();
        fs::write(dir.path().join("log"), "one\x1b[2J\ntwo\u{9b}x").unwrap();
        let log = File::open(dir.path().join("log")).unwrap();
        let terminal = nix::pty::openpty(None, None).unwrap();
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&terminal.slave)
        );
        LogCopy::find(Path::new(&path), &target)
            .unwrap()
            .write(&log, &StopCheck::default())
            .unwrap();
        let mut slave = File::from(terminal.slave);
        slave.write_all(b"END").unwrap();
        let (mut master, mut shown) = (File::from(terminal.master), Vec::new());
        while !shown.ends_with(b"END") {
            let mut piece = [0; 100];
            let count = master.read(&mut piece).unwrap();
            shown.extend_from_slice(&piece[..count]);
        }
        assert_eq!(shown, b"one\r\ntwox\r\nEND");
    }

    #[test]
    fn a_regular_file_in_memory_is_replaced() {
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
            eprintln!("skipped: a_regular_file_in_memory_is_replaced: there is no /dev/shm");
            return;
        };
        let path = |name: &str| dir.path().join(name);
        let target = TargetDir::acquire(&path("target")).unwrap();
        fs::write(path("log"), "log").unwrap();
        let log = File::open(path("log")).unwrap();
        for _ in 0..2 {
            let copy = LogCopy::find(&path("copy"), &target).unwrap();
            copy.write(&log, &StopCheck::default()).unwrap();
        }
        assert_eq!(fs::read_to_string(path("copy")).unwrap(), "log");
    }

    #[test]
    fn links_and_streams_of_the_users_are_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let target = TargetDir::acquire(&path("target")).unwrap();
        fs::write(path("log"), "log").unwrap();
        fs::write(path("real"), "old").unwrap();
        symlink("real", path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "fifo"] {
            LogCopy::find(&path(name), &target)
                .unwrap()
                .write(&File::open(path("log")).unwrap(), &StopCheck::default())
                .unwrap();
        }
        assert_eq!(fs::read_to_string(path("real")).unwrap(), "log");
        assert!(path("link").symlink_metadata().unwrap().is_symlink());
        // What a shell redirected is written to, and not replaced.
        let open = File::create(path("redirected")).unwrap();
        let stdout = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        LogCopy::find(Path::new(&stdout), &target)
            .unwrap()
            .write(&File::open(path("log")).unwrap(), &StopCheck::default())
            .unwrap();
        assert_eq!(open.metadata().unwrap().len(), 3);
        assert!(LogCopy::find(&path("none/copy"), &target).is_err());
        assert!(LogCopy::find(&path("target"), &target).is_err());
    }
}
