//! The chunked transfer coding (RFC 9112, section 7.1), strictly.

use std::ops::Range;

/// Longest line with the size of a chunk, its extensions included, and longest trailer.
const LONGEST_LINE: usize = 256;
const LONGEST_TRAILER: usize = 8 << 10;

/// Follows a chunked body.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    line: Vec<u8>,
    trailer: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// So many bytes of data are left.
    Data(u64),
    /// The end of the line behind the data.
    Behind,
    Trailer,
    Done,
}

/// A body that is not one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotChunked;

/// What the beginning of some bytes was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// So many bytes were taken,
    pub(crate) taken: usize,
    /// and these of them are data.
    pub(crate) data: Range<usize>,
}

impl Chunks {
    /// Whether the end was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes bytes from the beginning of `bytes`, at least one unless the body is at its end.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<Step, NotChunked> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_done() {
            if let State::Data(left) = self.state {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let count = most.min(bytes.len() - taken);
                let data = taken..taken + count;
                let left = left - count as u64;
                self.state = if left == 0 {
                    State::Behind
                } else {
                    State::Data(left)
                };
                return Ok(Step {
                    taken: data.end,
                    data,
                });
            }
            let byte = bytes.get(taken).copied().ok_or(NotChunked)?;
            taken += 1;
            self.line.push(byte);
            if let Some(line) = self.line.strip_suffix(b"\r\n") {
                self.state = next(self.state, line)?;
                self.trailer += line.len();
                self.line.clear();
            } else if byte == b'\n' || self.line.len() > LONGEST_LINE {
                return Err(NotChunked);
            }
            if self.state == State::Trailer && self.trailer > LONGEST_TRAILER {
                return Err(NotChunked);
            }
            if self.state == State::Size || matches!(self.state, State::Data(_)) {
                self.trailer = 0;
            }
        }
        Ok(Step {
            taken,
            data: taken..taken,
        })
    }
}

/// What follows a line.
fn next(state: State, line: &[u8]) -> Result<State, NotChunked> {
    match state {
        State::Size => {
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = size.trim_ascii_end();
            let hex = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(size).map_err(|_| NotChunked)?;
            let size = u64::from_str_radix(text, 16).map_err(|_| NotChunked)?;
            match (hex, size) {
                (false, _) => Err(NotChunked),
                (true, 0) => Ok(State::Trailer),
                (true, size) => Ok(State::Data(size)),
            }
        }
        State::Behind if line.is_empty() => Ok(State::Size),
        State::Trailer if line.is_empty() => Ok(State::Done),
        State::Trailer => Ok(State::Trailer),
        _ => Err(NotChunked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data of a body that comes in pieces of this length, and what is behind it.
    fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize), NotChunked> {
        let mut chunks = Chunks::default();
        let (mut data, mut at) = (Vec::new(), 0);
        while !chunks.is_done() && at < bytes.len() {
            let part = &bytes[at..(at + piece).min(bytes.len())];
            let step = chunks.step(part)?;
            data.extend_from_slice(&part[step.data.clone()]);
            at += step.taken;
        }
        if chunks.is_done() {
            Ok((data, bytes.len() - at))
        } else {
            Err(NotChunked)
        }
    }

    #[test]
    fn chunks_are_put_together_however_they_are_cut() {
        let body = b"5;ext=1\r\nhello\r\n1 \r\n,\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\nHTTP";
        for piece in 1..body.len() {
            let (data, rest) = decode(body, piece).unwrap();
            assert_eq!(data, b"hello,0123456789", "{piece}");
            assert_eq!(rest, 4);
        }
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n0\r\n\r\n",
            b"1\na\n0\n\n",
            b"1\r\nab\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\n",
            b" 1\r\na\r\n0\r\n\r\n",
        ] {
            assert_eq!(decode(body, 3), Err(NotChunked), "{body:?}");
        }
        let long = [b'1'].repeat(LONGEST_LINE + 2);
        assert_eq!(decode(&long, 100), Err(NotChunked));
        let mut trailer = b"0\r\n".to_vec();
        trailer.extend(b"a: b\r\n".repeat(LONGEST_TRAILER));
        assert_eq!(decode(&trailer, 1000), Err(NotChunked));
    }
}
