//! What a guest wrote to its serial line, as text.
//!
//! Boot loaders and firmware draw menus: they place the cursor where others end a line. So a placed
//! cursor and a cleared screen end a line here, and everything else that controls a terminal is
//! dropped. What is kept is bounded, however much a guest writes.

use boxbuild_host::text::is_harmful;

/// Bytes of text that are kept to be searched.
const KEPT: usize = 64 << 10;
/// Characters of a line; a longer one is cut into several.
const LONGEST_LINE: usize = 4096;
/// Characters that are looked at of what was drawn with a placed cursor.
const LONGEST_DRAWN: usize = 256;
/// Characters of an escape sequence; what is longer is none.
const LONGEST_SEQUENCE: usize = 256;

/// The text so far.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    /// Its end.
    text: String,
    /// Bytes that were dropped in front of it.
    dropped: u64,
    /// Where the current line begins in `text`.
    line: usize,
    /// Where the text begins that no end of a line has interrupted, only a cursor that was placed.
    run: usize,
    /// Bytes of a character that has not arrived as a whole.
    partial: Vec<u8>,
    state: State,
    /// Lines that ended and have not been taken.
    lines: Vec<String>,
}

/// Where in a sequence of a terminal the text is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// Behind a carriage return.
    Return,
    /// Behind an escape.
    Escape,
    /// In a control sequence, of this length so far.
    Control(usize),
    /// In a string, such as a title, of this length so far.
    Title(usize),
    /// In front of the last character of a sequence.
    Last,
}

impl Transcript {
    /// Takes bytes of the serial line.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let taken = std::mem::take(&mut self.partial);
        let mut rest = taken.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    text.chars().for_each(|char| self.char(char));
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    String::from_utf8_lossy(good)
                        .chars()
                        .for_each(|char| self.char(char));
                    let Some(length) = error.error_len() else {
                        // The rest of the character is to come.
                        self.partial = bad.to_vec();
                        break;
                    };
                    self.char(char::REPLACEMENT_CHARACTER);
                    rest = &bad[length..];
                }
            }
        }
        self.forget();
    }

    /// Where the text ends, counted from the beginning of all.
    pub(crate) fn end(&self) -> u64 {
        self.dropped + self.text.len() as u64
    }

    /// The text from `place` on, as far as it is kept.
    pub(crate) fn since(&self, place: u64) -> &str {
        let start = place.saturating_sub(self.dropped);
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        self.text
            .get(start.min(self.text.len())..)
            .unwrap_or_default()
    }

    /// Where in all the text something lies that was found in [`since`](Self::since) of `place`.
    pub(crate) fn place_in(&self, place: u64, at: usize) -> u64 {
        place.max(self.dropped) + at as u64
    }

    /// Where the line that has not ended begins, counted from the beginning of all.
    pub(crate) fn place_of_line(&self) -> u64 {
        self.dropped + self.line as u64
    }

    /// The line that has not ended.
    pub(crate) fn current(&self) -> &str {
        self.text.get(self.line..).unwrap_or_default()
    }

    /// Where [`drawn`](Self::drawn) begins, counted from the beginning of all.
    pub(crate) fn place_of_drawn(&self) -> u64 {
        self.dropped + self.run as u64
    }

    /// The text since the last line that ended by itself, as one: GRUB places the cursor where it already is, in
    /// the middle of a prompt.
    pub(crate) fn drawn(&self) -> String {
        let text = self.text.get(self.run..).unwrap_or_default();
        let characters = text.chars().rev().filter(|char| *char != '\n');
        let last: Vec<char> = characters.take(LONGEST_DRAWN).collect();
        last.into_iter().rev().collect()
    }

    /// Takes the lines that have ended since the last call.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    fn char(&mut self, char: char) {
        match (self.state, char) {
            (State::Return, '\n') => {
                self.end_line();
                self.run = self.line;
                self.state = State::Text;
            }
            (State::Return, '\r') => {}
            (State::Return, char) => {
                // A line that is written once more.
                self.end_unless_empty();
                self.run = self.line;
                self.state = State::Text;
                self.char(char);
            }
            (State::Text, '\r') => self.state = State::Return,
            (State::Text, '\n') => {
                self.end_line();
                self.run = self.line;
            }
            (State::Text, '\x1b') => self.state = State::Escape,
            (State::Text, char) => {
                if char == '\t' || !is_harmful(char) {
                    self.text.push(char);
                }
                if self.text.len() - self.line > LONGEST_LINE {
                    self.end_line();
                }
            }
            (State::Escape, '[') => self.state = State::Control(0),
            (State::Escape, ']' | 'P' | '^' | '_' | 'X') => self.state = State::Title(0),
            (State::Escape, ' '..='/') => self.state = State::Last,
            (State::Escape | State::Last, _) => self.state = State::Text,
            (State::Control(_), '@'..='~') => {
                self.state = State::Text;
                // Where the cursor goes to another line, and where the screen is cleared (ECMA-48).
                if matches!(char, 'A' | 'B' | 'E' | 'F' | 'H' | 'J' | 'd' | 'f') {
                    self.end_unless_empty();
                }
            }
            (State::Title(_), '\x07' | '\u{9c}') => self.state = State::Text,
            (State::Title(_), '\x1b') => self.state = State::Last,
            (State::Control(length) | State::Title(length), _) if length >= LONGEST_SEQUENCE => {
                self.state = State::Text;
            }
            (State::Control(length), _) => self.state = State::Control(length + 1),
            (State::Title(length), _) => self.state = State::Title(length + 1),
        }
    }

    fn end_unless_empty(&mut self) {
        if self.text.len() > self.line {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        self.lines.push(self.current().to_owned());
        self.text.push('\n');
        self.line = self.text.len();
    }

    /// Drops the beginning of a text that is too long, at the end of a line if there is one.
    fn forget(&mut self) {
        if self.text.len() <= 2 * KEPT {
            return;
        }
        let mut cut = self.text.len() - KEPT;
        while !self.text.is_char_boundary(cut) {
            cut += 1;
        }
        self.text.drain(..cut);
        self.dropped += cut as u64;
        self.line = self.line.saturating_sub(cut);
        self.run = self.run.saturating_sub(cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8]) -> (Vec<String>, String) {
        let mut transcript = Transcript::default();
        // In the smallest pieces: sequences and characters are cut anywhere.
        for byte in bytes {
            transcript.push(&[*byte]);
        }
        (transcript.take_lines(), transcript.current().to_owned())
    }

    #[test]
    fn a_menu_becomes_lines() {
        let text = "\x1b[2J\x1b[01;01HGNU GRUB\x1b[03;05H\x1b[1m*Debian\x1b[0m\x1b[05;05HAdvanced\r\nBooting\r\n";
        let (lines, rest) = lines(text.as_bytes());
        assert_eq!(lines, ["GNU GRUB", "*Debian", "Advanced", "Booting"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn what_a_placed_cursor_takes_apart_is_put_together() {
        let mut transcript = Transcript::default();
        transcript.push(b"Welcome to GRUB!\r\n\r\n\x1b[0mEnter passphrase for hd0,msdos1 (375");
        transcript.push(b"\x1b[06;36H\x1b[06;37H9732e): ");
        assert_eq!(transcript.current(), "9732e): ");
        assert_eq!(
            transcript.drawn(),
            "Enter passphrase for hd0,msdos1 (3759732e): "
        );
        assert_eq!(transcript.place_of_drawn(), 18);
        transcript.push(b"\r\nSlot 0 opened\r\n");
        assert_eq!(transcript.drawn(), "");
        transcript.push(&[b'x'; 1000]);
        assert_eq!(transcript.drawn().len(), LONGEST_DRAWN);
    }

    #[test]
    fn nothing_harmful_is_left() {
        let text =
            "a\x1b]0;title\x07b\x1b(Bc\x1bPq\x1b\\d\u{9b}e\u{202e}f\x08g größer \u{1F510} login: ";
        let (lines, rest) = lines(text.as_bytes());
        assert!(lines.is_empty());
        assert_eq!(rest, "abcdefg größer \u{1F510} login: ");
        assert!(!rest.chars().any(is_harmful));
        let bytes = b"\xff\xfex\xf0\x9f";
        let mut transcript = Transcript::default();
        transcript.push(bytes);
        assert_eq!(transcript.current(), "\u{fffd}\u{fffd}x");
    }

    #[test]
    fn a_line_that_is_drawn_again_is_a_line() {
        let (lines, rest) = lines(b"[ *  ] a job\r[  * ] a job (1s)\r\r\nlogin: ");
        assert_eq!(lines, ["[ *  ] a job", "[  * ] a job (1s)"]);
        assert_eq!(rest, "login: ");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut transcript = Transcript::default();
        for _ in 0..100 {
            transcript.push(&[b'x'; 16 << 10]);
            transcript.take_lines();
        }
        assert!(transcript.text.len() <= 2 * KEPT);
        let place = transcript.end();
        transcript.push(b"\nhost login: ");
        assert_eq!(transcript.since(place), "\nhost login: ");
        assert_eq!(transcript.since(0).len(), transcript.text.len());
        // An endless sequence hides nothing for ever.
        transcript.push(b"\x1b]");
        transcript.push(&[b'y'; 1000]);
        transcript.push(b"\nseen");
        assert_eq!(transcript.current(), "seen");
    }
}
