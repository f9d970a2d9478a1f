//! What podman writes.

use boxbuild_host::text::plain;

/// The last line that says something, without podman's log prefix.
pub(super) fn last_line(said: &[u8]) -> String {
    said.split(|byte| *byte == b'\n')
        .map(plain)
        .rfind(|line| !line.trim().is_empty() && !line.contains("level=warning"))
        .map(|line| line.trim_start_matches("Error: ").trim().to_owned())
        .unwrap_or_else(|| String::from("no message"))
}
