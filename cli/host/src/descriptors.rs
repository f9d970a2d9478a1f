//! The limit of open files, with which a build can only fail late.

use nix::sys::resource::{Resource, getrlimit};

/// Open files that a build needs: those of its machine, of the server of the shares, and of the programs in
/// the box whose files are on a share. With fewer, guests wait for ever.
const NEEDED: u64 = 256;

/// Returns why builds cannot work here: the hard limit of open files is too low.
#[must_use]
pub fn problem() -> Option<String> {
    // A host that does not tell has no limit that is known.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    problem_with(hard)
}

fn problem_with(hard: u64) -> Option<String> {
    (hard < NEEDED).then(|| {
        format!(
            "this shell allows {hard} open files, and a build needs {NEEDED}: raise the hard limit \
             (ulimit -Hn, or nofile in /etc/security/limits.conf)"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_limits_do() {
        for hard in [NEEDED, 1024, 4096, 1 << 20, nix::libc::RLIM_INFINITY] {
            assert_eq!(problem_with(hard), None);
        }
        assert!(problem_with(48).is_some_and(|text| text.contains("48 open files")));
    }
}
