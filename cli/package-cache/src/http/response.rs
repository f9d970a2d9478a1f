//! Answers of servers.

use super::{Field, LONGEST_HEAD, Parsed, content_length, fields, header_map, values, words};

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<Field>,
    /// The server ends the connection behind it.
    pub(crate) closes: bool,
    /// It is of HTTP/1.0.
    is_old: bool,
}

/// How long a body is (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
    /// Until the end of the connection.
    Rest,
}

impl Response {
    /// Reads a head at the beginning of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Parsed<Response> {
        let mut headers = [httparse::EMPTY_HEADER; super::FIELDS];
        let mut parsed = httparse::Response::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(len)) if len <= LONGEST_HEAD => {
                let (Some(status), Some(fields)) = (parsed.code, fields(parsed.headers)) else {
                    return Parsed::Foreign;
                };
                let is_old = parsed.version != Some(1);
                let says = |word: &str| words(&fields, "connection").any(|one| one == word);
                let closes = says("close") || is_old && !says("keep-alive");
                Parsed::Whole(
                    Response {
                        status,
                        fields,
                        closes,
                        is_old,
                    },
                    len,
                )
            }
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => Parsed::Partial,
            _ => Parsed::Foreign,
        }
    }

    /// How long its body is; `None` if it contradicts itself.
    pub(crate) fn framing(&self, is_get: bool) -> Option<Framing> {
        if !is_get || matches!(self.status, 204 | 304) {
            return Some(Framing::Length(0));
        }
        let codings: Vec<String> = words(&self.fields, "transfer-encoding").collect();
        let length = content_length(&self.fields).ok()?;
        match (codings.as_slice(), length) {
            ([], Some(length)) => Some(Framing::Length(length)),
            ([], None) => Some(Framing::Rest),
            ([one], None) if one == "chunked" && !self.is_old => Some(Framing::Chunked),
            _ => None,
        }
    }

    /// Whether something of it forbids to keep it, whatever RFC 9111 says: it is a part, or for one user.
    pub(crate) fn is_for_one(&self) -> bool {
        let has = |name| values(&self.fields, name).next().is_some();
        self.status != 200 || ["set-cookie", "content-range"].into_iter().any(has)
    }

    /// Returns it as the crates of RFC 9111 have it.
    pub(crate) fn for_policy(&self) -> Option<http::Response<()>> {
        let mut response = http::Response::builder()
            .status(self.status)
            .body(())
            .ok()?;
        *response.headers_mut() = header_map(&self.fields)?;
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(fields: &str) -> Response {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        match Response::parse(text.as_bytes()) {
            Parsed::Whole(response, _) => response,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_body_has_one_length_or_none_that_is_believed() {
        let framing = |fields: &str| response(fields).framing(true);
        assert_eq!(framing("Content-Length: 5\r\n"), Some(Framing::Length(5)));
        assert_eq!(
            framing("Transfer-Encoding: Chunked\r\n"),
            Some(Framing::Chunked)
        );
        assert_eq!(framing(""), Some(Framing::Rest));
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: \r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
        ] {
            assert_eq!(framing(fields), None, "{fields}");
        }
        let none = response("Content-Length: 5\r\n").framing(false);
        assert_eq!(none, Some(Framing::Length(0)));
    }

    #[test]
    fn an_old_server_ends_its_connection() {
        let parse = |text: &str| match Response::parse(text.as_bytes()) {
            Parsed::Whole(response, _) => response,
            other => panic!("{other:?}"),
        };
        assert!(parse("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").closes);
        assert!(!parse("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n").closes);
        assert!(parse("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").closes);
        let chunked = parse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.framing(true), None);
    }

    #[test]
    fn what_is_for_one_user_is_not_kept() {
        assert!(response("Set-Cookie: a=b\r\n").is_for_one());
        assert!(response("Content-Range: bytes 0-1/2\r\n").is_for_one());
        assert!(!response("ETag: \"a\"\r\n").is_for_one());
    }
}
