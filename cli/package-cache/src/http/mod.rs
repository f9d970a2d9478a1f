//! HTTP/1.1 as far as the cache takes part in it: strict, and bounded. What is not understood is
//! [`Parsed::Foreign`], and goes through untouched.

pub(crate) mod body;
pub(crate) mod request;
pub(crate) mod response;

/// Longest head of a message in bytes.
pub(crate) const LONGEST_HEAD: usize = 16 << 10;
/// Most header fields of one.
const FIELDS: usize = 64;

/// What the beginning of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<T> {
    /// More bytes are needed.
    Partial,
    /// It, and the number of its bytes.
    Whole(T, usize),
    /// Not what the cache takes part in.
    Foreign,
}

/// A header field, its name as it was written.
pub(crate) type Field = (String, String);

/// Takes the fields of a head. `None` if one has a value that is not visible ASCII.
fn fields(parsed: &[httparse::Header<'_>]) -> Option<Vec<Field>> {
    let visible = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let field = |header: &httparse::Header<'_>| {
        let value = Some(header.value).filter(|value| value.iter().all(visible))?;
        let value = String::from_utf8(value.to_vec()).ok()?;
        Some((header.name.to_owned(), value.trim().to_owned()))
    };
    parsed.iter().map(field).collect()
}

/// Returns the values of a field.
pub(crate) fn values<'f>(fields: &'f [Field], name: &'f str) -> impl Iterator<Item = &'f str> {
    let own = move |(field, _): &&Field| field.eq_ignore_ascii_case(name);
    fields.iter().filter(own).map(|(_, value)| value.as_str())
}

/// Returns the words of a field that is a list (RFC 9110, section 5.6.1), in lower case.
fn words<'f>(fields: &'f [Field], name: &'f str) -> impl Iterator<Item = String> + 'f {
    values(fields, name)
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_ascii_lowercase())
        .filter(|word| !word.is_empty())
}

/// The length that `Content-Length` says: `Err` if it says several or none that is one.
fn content_length(fields: &[Field]) -> Result<Option<u64>, ()> {
    let mut values = values(fields, "content-length");
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let digits = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || values.next().is_some() {
        return Err(());
    }
    first.parse().map(Some).map_err(|_| ())
}

/// Returns the fields as the crates of RFC 9111 have them.
pub(crate) fn header_map(fields: &[Field]) -> Option<http::HeaderMap> {
    let mut map = http::HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.append(name, value.parse().ok()?);
    }
    Some(map)
}
