//! Heads of answers from the cache, and parts of them.

use crate::http::{Field, values};
use crate::store::Stored;

/// Fields that are for one connection, or that are written anew (RFC 9110, section 7.6.1).
const OF_CONNECTION: &[&str] = &[
    "age",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Returns the fields that are kept.
pub(super) fn kept_fields(fields: &[Field]) -> Vec<Field> {
    // `Connection` names further ones.
    let named: Vec<String> = values(fields, "connection")
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    let is_kept = |(name, _): &&Field| {
        let is = |other: &str| other.eq_ignore_ascii_case(name);
        !OF_CONNECTION.iter().any(|other| is(other)) && !named.iter().any(|other| is(other))
    };
    fields.iter().filter(is_kept).cloned().collect()
}

/// The head of an answer with a body of this length.
pub(super) fn head(status: &str, fields: &[Field], more: &[Field], length: u64) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in fields.iter().chain(more) {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {length}\r\n\r\n");
    text.into_bytes()
}

/// A field.
pub(super) fn field(name: &str, value: &impl ToString) -> Field {
    (name.to_owned(), value.to_string())
}

/// A part of a body: its first byte, and the one behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What `Range` asks for (RFC 9110, section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Part(Part),
    /// A part that is not there.
    Unsatisfiable,
    /// Something that may be answered with all of it.
    All,
}

/// Reads a range of a body of this length.
pub(super) fn wanted(range: &str, length: u64) -> Wanted {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .and_then(|set| set.split_once('-'))
    else {
        return Wanted::All;
    };
    let part = match (number(first), number(last)) {
        (Some(start), Some(last)) if start <= last => Part {
            start,
            end: last.saturating_add(1).min(length),
        },
        (Some(start), None) if last.is_empty() => Part { start, end: length },
        (None, Some(count)) if first.is_empty() => Part {
            start: length.saturating_sub(count),
            end: length,
        },
        _ => return Wanted::All,
    };
    if part.start < part.end {
        Wanted::Part(part)
    } else {
        Wanted::Unsatisfiable
    }
}

/// Whether a guest's `If-Range` is for this answer (RFC 9110, section 13.1.5).
pub(super) fn is_same(if_range: &str, stored: &Stored) -> bool {
    let etag = values(stored.fields(), "etag").next();
    let modified = values(stored.fields(), "last-modified").next();
    if if_range.starts_with('"') {
        etag == Some(if_range)
    } else {
        modified == Some(if_range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_a_part_and_everything_else_is_not() {
        let part = |start, end| Wanted::Part(Part { start, end });
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-", part(2, 10)),
            ("bytes=2-99", part(2, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-30", part(0, 10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("items=0-1", Wanted::All),
            ("bytes=99999999999999999999-", Wanted::All),
        ] {
            assert_eq!(wanted(range, 10), expected, "{range}");
        }
    }

    #[test]
    fn fields_of_a_connection_are_not_kept() {
        let fields = [
            field("Connection", &"close, X-Hop"),
            field("x-hop", &1),
            field("Transfer-Encoding", &"chunked"),
            field("content-length", &5),
            field("ETag", &"\"a\""),
        ];
        assert_eq!(kept_fields(&fields), [field("ETag", &"\"a\"")]);
    }
}
