//! Paths in the guest, and names of files in the shared folders.

/// Mount point of the description's share.
pub const DESCRIPTION: &str = "/description";
/// Mount point of the results' share.
pub const BUNDLE: &str = "/bundle";
/// kiwi's target directory, on the guest's own disk.
pub const TARGET: &str = "/result";
/// Folder of the guest side's own files while the guest runs. It is a tmpfs: a disk that outlives
/// the machine keeps nothing of it.
pub const RUN: &str = "/run/boxbuild";

/// Name of kiwi's log in the results' share.
pub const LOG_NAME: &str = "result.log";
/// Name of the file with the build's exit code in the results' share: a decimal number and a line
/// feed. The guest writes 1 first and the real code last.
pub const CODE_NAME: &str = "result.code";
/// [`LOG_NAME`] as the guest sees it.
pub const LOG: &str = "/bundle/result.log";
/// [`CODE_NAME`] as the guest sees it.
pub const CODE: &str = "/bundle/result.code";
/// Name of the file in the results' share with what the guest side saw of the build, for its record.
pub const OBSERVED_NAME: &str = ".boxbuild.observed";
/// [`OBSERVED_NAME`] as the guest sees it.
pub const OBSERVED: &str = "/bundle/.boxbuild.observed";

/// A Python program that runs in the place of `kiwi-ng`, with its arguments, if it is there: a check. It
/// leaves what it found in [`BUNDLE`], and nothing is bundled.
pub const PROGRAM: &str = "/run/boxbuild/program";

/// A Python program that runs before `kiwi-ng system create` of a build that goes on after `prepare`, with
/// the arguments of `kiwi-ng system build`: it takes the description over into the root tree.
pub const TAKE_OVER: &str = "/run/boxbuild/take-over";
/// Where that program leaves more arguments for `system create`, one a line.
pub const CREATE_ARGS: &str = "/run/boxbuild/create-args";
/// kiwi's root tree, which `prepare` makes and `create` makes the image of.
pub const ROOT_TREE: &str = "/result/build/image-root";
/// The environment variable with the number of the descriptor on which kiwi's process asks for a checkpoint
/// of the disk: it writes the report `checkpoint wanted`, and reads the host's answer.
pub const CHECKPOINT: &str = "BOXBUILD_CHECKPOINT";

/// Folder of boxbuild's files in the initial ramdisk.
pub const INITRD: &str = "/boxbuild";
/// The program that the kernel starts as process 1 (kernel parameter `rdinit=`).
pub const INITRD_INIT: &str = "/boxbuild/init";
/// The [job](crate::job::Job) for `boxinit`.
pub const INITRD_JOB: &str = "/boxbuild/job";
/// Folder with the contents of [`Job::files`](crate::job::Job::files), named by their index.
pub const INITRD_FILES: &str = "/boxbuild/files";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_its_folder_and_its_name() {
        assert_eq!(LOG, format!("{BUNDLE}/{LOG_NAME}"));
        assert_eq!(CODE, format!("{BUNDLE}/{CODE_NAME}"));
        assert_eq!(OBSERVED, format!("{BUNDLE}/{OBSERVED_NAME}"));
        for path in [INITRD_INIT, INITRD_JOB, INITRD_FILES] {
            assert!(path.starts_with(&format!("{INITRD}/")), "{path}");
        }
    }
}
