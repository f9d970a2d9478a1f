//! The file mode creation mask of the process.

use std::fs;

/// What counts where /proc does not tell.
const USUAL: u32 = 0o022;

/// Returns the mask of the calling thread. umask(2) can only be asked by setting it, which other
/// threads would notice; the kernel has it in the thread's status (proc(5), since Linux 4.7).
pub fn umask() -> u32 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    parse(&status).unwrap_or(USUAL)
}

fn parse(status: &str) -> Option<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8)
        .ok()
        .map(|mask| mask & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read() {
        assert_eq!(parse("Name:\tx\nUmask:\t0077\nState:\tR\n"), Some(0o077));
        assert_eq!(parse("Name:\tx\n"), None);
        assert!(umask() <= 0o777);
    }
}
