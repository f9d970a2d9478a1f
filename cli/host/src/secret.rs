//! Secrets in what is shown: user info and tokens of addresses, credentials of options and variables.
//!
//! Everything that quotes an address, a command line or an environment for people or programs goes
//! through here. What it returns never has more in it than what it was given, and is given back as it
//! was where nothing is secret. In doubt, it hides more than the secret.

use std::borrow::Cow;
use std::ffi::OsStr;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Ends of names of options whose value is secret, such as `--add-repo-credentials`.
const OPTIONS: [&str; 5] = ["credentials", "password", "passphrase", "secret", "token"];
/// Parts of names of variables, options and parameters of addresses whose value is secret.
const PARTS: [&str; 11] = [
    "accesskey",
    "access_key",
    "apikey",
    "api_key",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "secret",
    "signature",
    "token",
];
/// Whole names of such: `luks` is an attribute of image types, `sig` a parameter of signed addresses.
const NAMES: [&str; 5] = ["auth", "luks", "pass", "pwd", "sig"];

/// Returns `text` with its secrets hidden: words are what is between white space.
pub fn redact(text: &str) -> Cow<'_, str> {
    Words::default().text(text)
}

/// Returns the words of a command line with their secrets hidden.
pub fn redact_words<W: AsRef<OsStr>>(command_line: &[W]) -> Vec<String> {
    let mut words = Words::default();
    command_line
        .iter()
        .map(|word| {
            let word = word.as_ref().to_string_lossy();
            words.argument(&word).into_owned()
        })
        .collect()
}

/// Whether a text has a secret.
pub fn is_in(text: &str) -> bool {
    matches!(redact(text), Cow::Owned(_))
}

/// Words one after the other.
#[derive(Debug, Default)]
struct Words {
    /// The last one was an option whose value is secret, with quotes before it.
    secret_follows: bool,
    /// The last one is the name of a secret: an equals sign may follow.
    is_name: bool,
    /// A secret of several words ends with the word that has this.
    until: Option<char>,
}

impl Words {
    fn text<'t>(&mut self, text: &'t str) -> Cow<'t, str> {
        let mut shown = String::with_capacity(text.len());
        let mut changed = false;
        for piece in text.split_inclusive(char::is_whitespace) {
            let word = piece.trim_end_matches(char::is_whitespace);
            let hidden = self.next(word);
            changed |= matches!(hidden, Cow::Owned(_));
            shown += &hidden;
            shown += &piece[word.len()..];
        }
        if changed {
            Cow::Owned(shown)
        } else {
            Cow::Borrowed(text)
        }
    }

    /// A word of a command line, which may have white space in it: a value as a whole, or a command
    /// line for another program.
    fn argument<'w>(&mut self, word: &'w str) -> Cow<'w, str> {
        self.until = None;
        let first = word.split(char::is_whitespace).next().unwrap_or_default();
        if self.secret_follows || assignment(first).is_some() {
            let hidden = self.next(first).into_owned();
            return Cow::Owned(hidden);
        }
        self.text(word)
    }

    fn next<'w>(&mut self, word: &'w str) -> Cow<'w, str> {
        if word.is_empty() {
            return Cow::Borrowed(word);
        }
        if let Some(end) = self.until {
            self.until = (!word.contains(end)).then_some(end);
            return Cow::Owned(HIDDEN.to_owned());
        }
        let was_name = std::mem::take(&mut self.is_name);
        if std::mem::take(&mut self.secret_follows) {
            self.until = end_of(word);
            return Cow::Owned(HIDDEN.to_owned());
        }
        if word == "=" {
            self.secret_follows = was_name;
            return Cow::Borrowed(word);
        }
        if let Some(at) = assignment(word) {
            let (name, value) = word.split_at(at + 1);
            self.until = end_of(value);
            return Cow::Owned(format!("{}{HIDDEN}", address(name)));
        }
        self.is_name = is_secret(word);
        // Quotes and the like before an option: kiwi="--add-repo-credentials …".
        self.secret_follows = word
            .rfind("--")
            .is_some_and(|at| OPTIONS.iter().any(|end| word[at..].ends_with(end)));
        address(word)
    }
}

/// What a value of several words ends with, if this is the first of them.
fn end_of(value: &str) -> Option<char> {
    let mut chars = value.chars();
    let end = match chars.next()? {
        quote @ ('"' | '\'') => quote,
        '[' => ']',
        _ => return None,
    };
    (!chars.as_str().contains(end)).then_some(end)
}

/// Whether the name of a variable, an option or a parameter says that its value is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    NAMES.contains(&name.as_str()) || PARTS.iter().any(|part| name.contains(part))
}

/// Where the equals sign of a `NAME=VALUE` is whose name says that the value is secret.
fn assignment(word: &str) -> Option<usize> {
    let mut signs = word.match_indices('=').map(|(at, _)| at);
    let at = signs.find(|at| {
        let name = word[..*at].rsplit(['=', '?', '&', '"', '\'', ',']).next();
        name.is_some_and(is_secret)
    })?;
    (at + 1 < word.len()).then_some(at)
}

/// Hides what is before the `@` of addresses (RFC 3986, section 3.2), and queries that are nothing but
/// a token.
fn address(word: &str) -> Cow<'_, str> {
    if !word.contains("://") {
        return without_scheme(word);
    }
    let mut shown = String::new();
    let mut rest = word;
    let mut changed = false;
    while let Some(scheme) = rest.find("://") {
        let start = scheme + "://".len();
        // The next address of a list.
        let end = rest[start..]
            .find("://")
            .map_or(rest.len(), |len| start + len);
        shown += &rest[..start];
        let mut one = &rest[start..end];
        if let Some(at) = end_of_user_info(one) {
            shown += HIDDEN;
            one = &one[at..];
            changed = true;
        }
        match bare_query(one) {
            Some(query) => {
                shown += &one[..query.start];
                shown += HIDDEN;
                shown += &one[query.end..];
                changed = true;
            }
            None => shown += one,
        }
        rest = &rest[end..];
    }
    if changed {
        shown += rest;
        Cow::Owned(shown)
    } else {
        Cow::Borrowed(word)
    }
}

/// Where the `@` behind the user info is, in what follows a scheme.
fn end_of_user_info(address: &str) -> Option<usize> {
    let end = address
        .find(['/', '?', '#', '"', '\'', '<', '>'])
        .unwrap_or(address.len());
    let authority = &address[..end];
    authority.rfind('@').or_else(|| {
        // What looks like a port and is none is the beginning of a password that has one of these
        // characters in it.
        let (host, port) = authority.rsplit_once(':')?;
        let is_password = !host.starts_with('[') && port.contains(|c: char| !c.is_ascii_digit());
        is_password.then(|| address.rfind('@')).flatten()
    })
}

/// A query without a name: some servers of packages take a token as such.
fn bare_query(address: &str) -> Option<std::ops::Range<usize>> {
    let start = address.find('?')? + 1;
    let end = address[start..]
        .find(['#', '"', '\'', '<', '>', ',', '/', ')'])
        .map_or(address.len(), |len| start + len);
    let query = &address[start..end];
    (!query.is_empty() && !query.contains('=')).then_some(start..end)
}

/// Hides the user info of `user:password@host`, perhaps as a value.
fn without_scheme(word: &str) -> Cow<'_, str> {
    let Some(colon) = word.find(':') else {
        return Cow::Borrowed(word);
    };
    // A password may have these characters, a user's name has none.
    let start = word[..colon]
        .rfind(['=', '"', '\'', '(', ','])
        .map_or(0, |at| at + 1);
    // A path may have both characters in it.
    let end = word[start..]
        .find('/')
        .map_or(word.len(), |len| start + len);
    match word[start..end].rfind('@').map(|at| start + at) {
        Some(at) if at > colon => Cow::Owned(format!("{}{HIDDEN}{}", &word[..start], &word[at..])),
        _ => Cow::Borrowed(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 12.
    #[test]
    fn user_info_is_hidden_wherever_it_stands() {
        for (text, shown) in [
            ("https://me:pw@host/x", "https://***@host/x"),
            ("https://token@host/x", "https://***@host/x"),
            ("https://me:p@ss@host:1/x@y", "https://***@host:1/x@y"),
            (
                "cannot fetch https://me:pw@h/a: 404",
                "cannot fetch https://***@h/a: 404",
            ),
            ("'https://me:pw@h/'", "'https://***@h/'"),
            (
                "a=https://me:pw@h,b=https://x:y@z",
                "a=https://***@h,b=https://***@z",
            ),
            ("me:pw@localhost:3128", "***@localhost:3128"),
            (
                "http_proxy=_http://me:pw@h:1_ x",
                "http_proxy=_http://***@h:1_ x",
            ),
            ("http_proxy=_me:pw@h:1_", "http_proxy=***@h:1_"),
            (
                "kiwi=\"system build --set-repo https://a:b@c/d,rpm-md\"",
                "kiwi=\"system build --set-repo https://***@c/d,rpm-md\"",
            ),
            (
                "kiwi=\"--add-repo-credentials user:pass --x\"",
                "kiwi=\"--add-repo-credentials *** --x\"",
            ),
            (
                "--set-repo-credentials=user:pass",
                "--set-repo-credentials=***",
            ),
            ("--setenv MY_PASSWORD=x", "--setenv MY_PASSWORD=***"),
            ("--setenv=API_TOKEN=x=y", "--setenv=API_TOKEN=***"),
            ("https://h/x?token=abc", "https://h/x?token=***"),
            // Two kinds in one word.
            ("https://me:pw@h/x?token=abc", "https://***@h/x?token=***"),
            // A token as the query, and parameters of signed addresses.
            ("https://h/x?0123abcd", "https://h/x?***"),
            (
                "https://h/x?0123abcd,rpm-md,alias",
                "https://h/x?***,rpm-md,alias",
            ),
            ("https://h/x?v=1&sig=abc", "https://h/x?v=1&sig=***"),
            (
                "https://h/x?X-Amz-Signature=a",
                "https://h/x?X-Amz-Signature=***",
            ),
            ("obs://me:pw@A:B/c", "obs://***@A:B/c"),
            // Passwords with characters that end something elsewhere.
            ("https://me:p/w@h/x", "https://***@h/x"),
            ("https://me:p\"w@h/x", "https://***@h/x"),
            ("me:p=w@h:1", "***@h:1"),
            ("me:pw@h/x@y", "***@h/x@y"),
            (
                "--set-repo-credentials=user:pa--ss",
                "--set-repo-credentials=***",
            ),
            (
                "--add-repo-credentials 'user:pa ss' --x",
                "--add-repo-credentials *** *** --x",
            ),
            ("MY_PASSWORD=\"a b\" c", "MY_PASSWORD=*** *** c"),
            // What kiwi encrypts a disk with.
            ("--set-type-attr luks=pw", "--set-type-attr luks=***"),
            ("--setenv GPG_PASSPHRASE=x", "--setenv GPG_PASSPHRASE=***"),
            // A line of a batch file.
            (
                "add-repo-credentials = [\"a:b\", \"c:d\"] x",
                "add-repo-credentials = *** *** x",
            ),
        ] {
            assert_eq!(redact(text), shown);
            assert_eq!(is_in(text), text != shown);
        }
    }

    #[test]
    fn the_rest_is_as_it_was() {
        for text in [
            "",
            "https://host/@scope/file",
            "https://host:8080/x",
            "git@example.org",
            "mail root@example.org, thank you",
            "systemd-nspawn@x.service",
            "a\n  b\tc ",
            "/srv/a:b/c@d",
            "--target-dir /x --type oem",
            "https://host/x?PEDANTIC=1",
            "is it https://host/x? = b",
            "https://[2001:db8::1]/@x",
            "rd.luks.uuid=1 author=x",
        ] {
            assert!(
                matches!(redact(text), Cow::Borrowed(same) if same == text),
                "{text}"
            );
        }
    }

    #[test]
    fn words_of_a_command_line() {
        let words = [
            "--add-repo",
            "https://a:b@c",
            "--add-repo-credentials",
            "u:p w",
            "-x",
        ];
        assert_eq!(
            redact_words(&words),
            [
                "--add-repo",
                "https://***@c",
                "--add-repo-credentials",
                "***",
                "-x"
            ]
        );
        // A command line within a command line, and a value with white space.
        let words = [
            "sh",
            "build --add-repo-credentials u:p --add-repo https://a:b@c",
            "--setenv",
            "A_TOKEN=x y",
            "z",
        ];
        assert_eq!(
            redact_words(&words),
            [
                "sh",
                "build --add-repo-credentials *** --add-repo https://***@c",
                "--setenv",
                "A_TOKEN=***",
                "z"
            ]
        );
    }

    #[test]
    fn time_grows_with_the_length_only() {
        let start = std::time::Instant::now();
        for piece in ["a://b@", "a=", "--a", "a:b@", "?a", "'a:"] {
            let text = piece.repeat((1 << 20) / piece.len());
            assert!(redact(&text).len() <= text.len() * 2, "{piece}");
        }
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
    }
}
