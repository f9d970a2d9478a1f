//! What the kernel command line asks of process 1 (docs/guest-contract.md).

use crate::cmdline::value;

/// When what was written to the disk must be on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// Never: the disk is thrown away.
    #[default]
    Never,
    /// Always: the disk outlives the machine.
    Always,
    /// If the build failed: somebody may look at it.
    Failed,
}

/// When a shell for people runs on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// After the build, however it ended.
    After,
    /// Instead of a build.
    Only,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// `boxbuild.keep=`.
    pub keep: Keep,
    /// `boxbuild.shell=`.
    pub shell: Option<Shell>,
}

impl Wishes {
    /// Reads the words of a command line. Others are no wishes.
    pub fn of(words: &[String]) -> Wishes {
        Wishes {
            keep: match value(words, "boxbuild.keep") {
                Some("always") => Keep::Always,
                Some("failed") => Keep::Failed,
                _ => Keep::Never,
            },
            shell: match value(words, "boxbuild.shell") {
                Some("after") => Some(Shell::After),
                Some("only") => Some(Shell::Only),
                _ => None,
            },
        }
    }

    /// Whether the disk must be written out at the end of a build that was `good` or not.
    pub fn keeps_disk(&self, good: bool) -> bool {
        match self.keep {
            Keep::Never => false,
            Keep::Always => true,
            Keep::Failed => !good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::words;

    #[test]
    fn wishes() {
        let of = |line: &str| Wishes::of(&words(line));
        assert_eq!(of("root=/dev/vda1 quiet"), Wishes::default());
        let both = of("boxbuild.keep=failed boxbuild.shell=after");
        assert_eq!(both.shell, Some(Shell::After));
        assert!(both.keeps_disk(false) && !both.keeps_disk(true));
        assert!(of("boxbuild.keep=always").keeps_disk(true));
        assert_eq!(of("boxbuild.shell=only").shell, Some(Shell::Only));
        assert_eq!(of("boxbuild.shell=x boxbuild.keep=y"), Wishes::default());
    }
}
