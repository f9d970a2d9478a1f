//! Options for boxbuild's init on the kernel command line of a fast boot.

use crate::kernel_args::value;

const KEEP: &str = "boxbuild.keep";
const SHELL: &str = "boxbuild.shell";

/// When the guest must have written out its disk before it powers off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeepDisk {
    /// The disk is thrown away.
    #[default]
    Never,
    /// `boxbuild.keep=always`: the disk outlives the machine.
    Always,
    /// `boxbuild.keep=failed`: the disk of a failed build is kept for inspection.
    OnFailure,
}

/// When a shell runs on the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// `boxbuild.shell=after`: after the build, however it ended.
    AfterBuild,
    /// `boxbuild.shell=only`: instead of a build.
    InsteadOfBuild,
}

/// The options of a fast boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootOptions {
    /// When to write out the disk.
    pub keep: KeepDisk,
    /// When to run a shell, if at all.
    pub shell: Option<Shell>,
}

impl BootOptions {
    /// Reads the words of a command line. Unknown words and values are ignored.
    pub fn parse(words: &[String]) -> BootOptions {
        BootOptions {
            keep: match value(words, KEEP) {
                Some("always") => KeepDisk::Always,
                Some("failed") => KeepDisk::OnFailure,
                _ => KeepDisk::Never,
            },
            shell: match value(words, SHELL) {
                Some("after") => Some(Shell::AfterBuild),
                Some("only") => Some(Shell::InsteadOfBuild),
                _ => None,
            },
        }
    }

    /// The words for a command line.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let keep = match self.keep {
            KeepDisk::Never => None,
            KeepDisk::Always => Some("always"),
            KeepDisk::OnFailure => Some("failed"),
        };
        let shell = self.shell.map(|shell| match shell {
            Shell::AfterBuild => "after",
            Shell::InsteadOfBuild => "only",
        });
        [(KEEP, keep), (SHELL, shell)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
    }

    /// Whether there is a build at all.
    pub fn builds(&self) -> bool {
        self.shell != Some(Shell::InsteadOfBuild)
    }

    /// Whether the disk must be written out after a build that has `succeeded` or not.
    pub fn keeps_disk(&self, succeeded: bool) -> bool {
        match self.keep {
            KeepDisk::Never => false,
            KeepDisk::Always => true,
            KeepDisk::OnFailure => !succeeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_args::words;

    #[test]
    fn options_among_other_words() {
        let parse = |line: &str| BootOptions::parse(&words(line));
        assert_eq!(parse("root=/dev/vda1 quiet"), BootOptions::default());
        let both = parse("boxbuild.keep=failed boxbuild.shell=after");
        assert_eq!(both.shell, Some(Shell::AfterBuild));
        assert!(both.keeps_disk(false) && !both.keeps_disk(true));
        assert!(parse("boxbuild.keep=always").keeps_disk(true));
        assert!(!parse("boxbuild.shell=only").builds());
        assert_eq!(
            parse("boxbuild.shell=x boxbuild.keep=y"),
            BootOptions::default()
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        for keep in [KeepDisk::Never, KeepDisk::Always, KeepDisk::OnFailure] {
            for shell in [None, Some(Shell::AfterBuild), Some(Shell::InsteadOfBuild)] {
                let options = BootOptions { keep, shell };
                let words: Vec<String> = options.words().collect();
                assert_eq!(BootOptions::parse(&words), options, "{words:?}");
            }
        }
    }
}
