//! The exit codes of the program, written once: the help, the pages and every command have them from
//! here.

use crate::error::ErrorClass;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// The command did what it was asked for.
    Success = 0,
    /// The build failed in the box.
    BuildFailed = 1,
    /// The command line, or a file or name in it, is wrong.
    Usage = 2,
    /// The host or the box has a problem.
    Host = 3,
    /// A limit of time was exceeded, as the program `timeout` of coreutils says it.
    Timeout = 124,
    /// A signal ended it, as shells say it (128 and the number of SIGINT).
    Interrupted = 130,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Exit; 6] = [
        Exit::Success,
        Exit::BuildFailed,
        Exit::Usage,
        Exit::Host,
        Exit::Timeout,
        Exit::Interrupted,
    ];

    /// Returns the number that the process ends with.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns what it means, for people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Success => "success: for a build, the image is in the target folder",
            Exit::BuildFailed => {
                "the build failed in the box: the reason is on the screen, the log in result.log; or an image did \
                 not pass its test; of diff and verify-build: the results differ"
            }
            Exit::Usage => {
                "wrong usage: an option is wrong, or a file, folder, box or build that was named does \
                 not exist or cannot be used; nothing was started or changed"
            }
            Exit::Host => {
                "a problem with the host or the box: a missing program, no permission, a full disk, no \
                 network, a damaged box, an engine that failed"
            }
            Exit::Timeout => "a limit of time was exceeded: --timeout or --timeout-idle",
            Exit::Interrupted => "interrupted by Ctrl-C, SIGTERM or SIGHUP",
        }
    }

    /// Returns whether only commands that run a box end with it.
    pub const fn is_of_runs(self) -> bool {
        matches!(self, Exit::BuildFailed | Exit::Timeout)
    }
}

impl From<ErrorClass> for Exit {
    fn from(class: ErrorClass) -> Exit {
        match class {
            ErrorClass::Usage => Exit::Usage,
            ErrorClass::Host => Exit::Host,
            ErrorClass::Interrupted => Exit::Interrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts ask for these numbers.
    #[test]
    fn exit_codes_keep_their_numbers() {
        assert_eq!(Exit::ALL.map(Exit::number), [0, 1, 2, 3, 124, 130]);
    }
}
