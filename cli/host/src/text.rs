//! Text that others wrote, made fit for a terminal: that of guests, servers and descriptions, and the
//! names of their files.
//!
//! | | for |
//! |---|---|
//! | [`plain`] | one line of a log, a console or a server |
//! | [`shown`], [`shown_path`] | a name or a word within a line of ours |
//! | [`screen`] | all output, as the last step before it is printed |

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

/// Whether a character can do something to a terminal, or to how the characters around it are read:
/// control characters of both sets (ECMA-48), line and paragraph separators, and the marks,
/// embeddings, overrides and isolates of bidirectional text (UAX #9, section 2).
pub fn is_harmful(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// Whether it is nothing but printable ASCII: almost all lines are.
fn is_ascii_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// One line without escape sequences and other harmful characters but tabs.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if is_ascii_text(bytes) || !text.chars().any(is_harmful) {
        return text.into_owned();
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            // CSI: parameters, intermediates, one final byte (ECMA-48, section 5.4).
            '\x1b' if chars.peek() == Some(&'[') => {
                chars.next();
                while chars
                    .next_if(|char| !('\x40'..='\x7e').contains(char))
                    .is_some()
                {}
                chars.next();
            }
            // Other escape sequences: the next character belongs to it.
            '\x1b' => {
                chars.next();
            }
            '\t' => plain.push('\t'),
            char if is_harmful(char) => {}
            char => plain.push(char),
        }
    }
    plain
}

/// A name or a word within a line: harmful characters, ends of lines among them, are shown as
/// escapes, so that a name neither begins a line nor reorders the text around it.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        if is_harmful(char) {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

/// A path within a line. Bytes that are not UTF-8 are replaced.
pub fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy()).into_owned()
}

/// Text of one or more lines as it is printed: of everything harmful, only ends of lines, tabs and
/// sequences that set colours are left (SGR, ECMA-48, section 8.3.117), which are ours: [`plain`] has
/// removed those of others.
pub fn screen(text: &str) -> Cow<'_, str> {
    let fine = |char: char| !is_harmful(char) || matches!(char, '\n' | '\t');
    if is_ascii_text(text.as_bytes()) || text.chars().all(fine) {
        return Cow::Borrowed(text);
    }
    let mut screen = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if let Some(length) = colour(rest) {
            screen.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        if fine(char) {
            screen.push(char);
        }
        rest = &rest[char.len_utf8()..];
    }
    Cow::Owned(screen)
}

/// Length of the sequence that sets a colour, if the text begins with one.
fn colour(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let parameters = body
        .find(|char: char| !char.is_ascii_digit() && char != ';')
        .unwrap_or(body.len());
    body[parameters..]
        .starts_with('m')
        .then_some("\x1b[m".len() + parameters)
}

/// JSON text with harmful characters as escapes: the same values, for a terminal as well. In JSON, such
/// characters occur within strings only, except the ends of lines between tokens, which stay.
pub fn json(text: &str) -> Cow<'_, str> {
    let harmful = |char: char| is_harmful(char) && char != '\n';
    if !text.chars().any(harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if harmful(char) {
            // All of them are in the basic plane: one escape each (RFC 8259, section 7). Writing into
            // a string does not fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(char));
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of each kind that does something to a terminal.
    const HARMFUL: &str = "\x1b[2J\x1b]0;title\x07\u{9b}31m\r\x08\x7f\u{202e}\u{2066}\u{2028}\x1bc";

    fn is_harmless(text: &str) -> bool {
        !text.chars().any(is_harmful)
    }

    #[test]
    fn nothing_harmful_is_left() {
        let text = format!("a{HARMFUL}b");
        for harmless in [
            plain(text.as_bytes()),
            shown(&text).into_owned(),
            screen(&text).into_owned(),
            json(&text).into_owned(),
        ] {
            assert!(is_harmless(&harmless), "{harmless:?}");
            assert!(harmless.starts_with('a') && harmless.ends_with('b'));
        }
        for good in ["", "größer — 图像\u{301}"] {
            assert_eq!(plain(good.as_bytes()), good);
            assert_eq!(shown(good), good);
            assert_eq!(screen(good), good);
            assert_eq!(json(good), good);
        }
        // An escape at the end takes nothing with it.
        assert_eq!(plain(b"a\x1b"), "a");
        assert_eq!(plain(b"a\x1b["), "a");
        assert_eq!(screen("a\x1b["), "a[");
    }

    #[test]
    fn a_name_cannot_begin_a_line_nor_look_like_another() {
        assert_eq!(shown("a\nboxbuild: built"), "a\\nboxbuild: built");
        assert_eq!(shown("gpj\u{202e}.exe"), "gpj\\u{202e}.exe");
        assert_eq!(shown_path(Path::new("/a\x1b[31m/b")), "/a\\u{1b}[31m/b");
    }

    #[test]
    fn colours_of_ours_are_printed() {
        let text = "\x1b[32m✓\x1b[39m boot\n\ttwo\x1b[1;31mx\x1b[m";
        assert_eq!(screen(text), text);
        assert_eq!(screen("\x1b[2K\x1b[31"), "[2K[31");
    }

    #[test]
    fn json_keeps_its_values() {
        let text = "[\n  \"a\u{9b}b\u{202e}\u{7f}\"\n]";
        assert_eq!(json(text), "[\n  \"a\\u009bb\\u202e\\u007f\"\n]");
    }
}
