//! The fields of a line of a listing, and its limit.

/// Bytes that a file may be unpacked to.
pub(super) const LARGEST: u64 = 1 << 40;

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    boxbuild_host::digest::hex(bytes)
}

/// A name as a field of a line.
pub(super) fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for char in String::from_utf8_lossy(name).chars() {
        match char {
            '\\' => text.push_str("\\\\"),
            char if boxbuild_host::text::is_harmful(char) => {
                text.push_str(&format!("\\u{{{:x}}}", u32::from(char)));
            }
            char => text.push(char),
        }
    }
    text
}
