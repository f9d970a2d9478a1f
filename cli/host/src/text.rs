//! Text that others wrote, made fit for a terminal.

/// Text without ANSI escape sequences and other control characters: what a guest writes must
/// not reach the user's terminal as commands.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
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
            char if char.is_control() => {}
            char => plain.push(char),
        }
    }
    plain
}
