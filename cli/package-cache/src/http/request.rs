//! Requests of guests.

use super::{Field, LONGEST_HEAD, Parsed, fields, values, words};

/// A request without a body: GET or HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) is_get: bool,
    /// As it is in the first line: a path, or an address in full (to a proxy).
    pub(crate) target: String,
    /// The value of `Host`, in lower case.
    pub(crate) host: String,
    pub(crate) fields: Vec<Field>,
    /// It is the last one of its connection.
    pub(crate) closes: bool,
}

/// Fields that change nothing about the body, or that the cache or RFC 9111 knows. A server may do anything
/// with another one: its answer is not kept.
const KNOWN: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "host",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "keep-alive",
    "pragma",
    "proxy-connection",
    "range",
    "user-agent",
    // Of zypper: the distribution, and a number of the installation.
    "x-zypp-anonymousid",
    "x-zypp-distributionflavor",
];

impl Request {
    /// Reads a request at the beginning of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Parsed<Request> {
        let begins = |method: &[u8]| {
            let common = method.len().min(bytes.len());
            bytes.get(..common) == method.get(..common)
        };
        if !begins(b"GET ") && !begins(b"HEAD ") {
            return Parsed::Foreign;
        }
        let mut headers = [httparse::EMPTY_HEADER; super::FIELDS];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(len)) if len <= LONGEST_HEAD => {
                let request = Request::of(&parsed);
                request.map_or(Parsed::Foreign, |request| Parsed::Whole(request, len))
            }
            Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => Parsed::Partial,
            _ => Parsed::Foreign,
        }
    }

    fn of(parsed: &httparse::Request<'_, '_>) -> Option<Request> {
        let target = parsed.path.filter(|_| parsed.version == Some(1))?;
        let plain = target.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        let known = target.starts_with('/') || target.starts_with("http://");
        let fields = fields(parsed.headers)?;
        let has = |name| values(&fields, name).next().is_some();
        let body = [
            "content-length",
            "transfer-encoding",
            "upgrade",
            "expect",
            "te",
            "trailer",
        ];
        if !plain || !known || target.contains('#') || body.into_iter().any(has) {
            return None;
        }
        let hosts: Vec<&str> = values(&fields, "host").collect();
        let [host] = hosts.as_slice() else {
            return None;
        };
        if !is_authority(host) {
            return None;
        }
        let host = host.to_ascii_lowercase();
        let connection: Vec<String> = words(&fields, "connection").collect();
        // Other words name fields that are for this connection only.
        if !connection
            .iter()
            .all(|word| word == "close" || word == "keep-alive")
        {
            return None;
        }
        Some(Request {
            is_get: parsed.method == Some("GET"),
            target: target.to_owned(),
            host,
            closes: connection.iter().any(|word| word == "close"),
            fields,
        })
    }

    /// Whether an answer to it may be kept, or come from what is kept.
    pub(crate) fn is_cacheable(&self) -> bool {
        let known = |(name, _): &Field| KNOWN.iter().any(|one| one.eq_ignore_ascii_case(name));
        let never = words(&self.fields, "cache-control").any(|word| word == "no-store");
        self.is_get && !never && self.fields.iter().all(known)
    }

    /// Whether it asks for a part.
    pub(crate) fn range(&self) -> Option<&str> {
        values(&self.fields, "range").next()
    }

    /// Whether the guest has a copy of its own, or a part of one, and asks whether that is still good.
    pub(crate) fn is_conditional(&self) -> bool {
        let has = |name| values(&self.fields, name).next().is_some();
        ["if-none-match", "if-modified-since", "if-range"]
            .into_iter()
            .any(has)
    }

    /// Writes it, with further fields.
    pub(crate) fn write(&self, more: &[Field]) -> Vec<u8> {
        let method = if self.is_get { "GET" } else { "HEAD" };
        let mut text = format!("{method} {} HTTP/1.1\r\n", self.target);
        for (name, value) in self.fields.iter().chain(more) {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }

    /// Returns it as the crates of RFC 9111 have it.
    pub(crate) fn for_policy(&self) -> Option<http::Request<()>> {
        let uri = if self.target.starts_with('/') {
            format!("http://{}{}", self.host, self.target)
        } else {
            self.target.clone()
        };
        let mut request = http::Request::builder()
            .method("GET")
            .uri(uri)
            .body(())
            .ok()?;
        *request.headers_mut() = super::header_map(&self.fields)?;
        Some(request)
    }
}

/// Whether it is a name or an address, with a port or without.
fn is_authority(host: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    (1..=260).contains(&host.len()) && host.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Request {
        match Request::parse(text.as_bytes()) {
            Parsed::Whole(request, len) if len == text.len() => request,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_package_managers_ask_is_cacheable_and_written_back() {
        let text = "GET /debian/pool/a.deb HTTP/1.1\r\nHost: deb.Example.org\r\nUser-Agent: Debian \
                    APT-HTTP/1.3 (3.0.3)\r\nAccept: text/*\r\n\r\n";
        let request = whole(text);
        assert!(request.is_cacheable() && !request.closes && !request.is_conditional());
        assert_eq!(request.host, "deb.example.org");
        assert_eq!(request.write(&[]), text.as_bytes());
        assert!(request.for_policy().is_some());
        let proxy = whole("GET http://a.example/x.rpm HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(proxy.is_cacheable());
    }

    #[test]
    fn what_is_secret_or_changes_the_answer_is_not_cacheable() {
        for field in [
            "Authorization: Basic x",
            "Proxy-Authorization: Basic x",
            "Cookie: a=b",
            "X-Forwarded-Host: evil.example",
            "X-Original-URL: /other",
            "Cache-Control: max-age=0, No-Store",
        ] {
            let text = format!("GET /a HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
            assert!(!whole(&text).is_cacheable(), "{field}");
        }
        assert!(!whole("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n").is_cacheable());
    }

    #[test]
    fn what_is_not_a_plain_request_is_foreign() {
        for text in [
            "POST /a HTTP/1.1\r\n",
            "GETS /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01",
            "SSH-2.0-x\r\n",
            "GET /a\r\n",
            "GET /a HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: a\x01b\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(Request::parse(text.as_bytes()), Parsed::Foreign, "{text:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(LONGEST_HEAD));
        assert_eq!(Request::parse(long.as_bytes()), Parsed::Foreign);
        for part in ["", "G", "GET /a HTTP/1.1\r\nHost: a\r\n", "HEAD"] {
            assert_eq!(Request::parse(part.as_bytes()), Parsed::Partial, "{part}");
        }
    }
}
