//! Secrets in what is shown: user info of addresses, credentials of options.
//!
//! Everything that quotes an address, a command line or an environment for people or programs goes
//! through here. What it returns never has more in it than what it was given, and is given back as it
//! was where nothing is secret.

use std::borrow::Cow;
use std::ffi::OsStr;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// Ends of names of options whose value is secret, such as `--add-repo-credentials`.
const OPTIONS: [&str; 4] = ["credentials", "password", "secret", "token"];
/// Parts of names of variables whose value is secret.
const VARIABLES: [&str; 4] = ["password", "passwd", "secret", "token"];

/// Returns `text` with its secrets hidden: words are what is between white space.
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut words = Words::default();
    let mut shown = String::with_capacity(text.len());
    let mut changed = false;
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end_matches(char::is_whitespace);
        let hidden = words.next(word);
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

/// Returns the words of a command line with their secrets hidden.
pub fn redact_words<W: AsRef<OsStr>>(command_line: &[W]) -> Vec<String> {
    let mut words = Words::default();
    command_line
        .iter()
        .map(|word| {
            let word = word.as_ref().to_string_lossy();
            words.next(&word).into_owned()
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
}

impl Words {
    fn next<'w>(&mut self, word: &'w str) -> Cow<'w, str> {
        if std::mem::take(&mut self.secret_follows) && !word.is_empty() {
            return Cow::Owned(HIDDEN.to_owned());
        }
        // Quotes and the like before an option: kiwi="--add-repo-credentials …".
        let option = word.rfind("--").map(|at| &word[at + 2..]);
        if let Some(option) = option {
            let name = option.split_once('=').map_or(option, |(name, _)| name);
            let secret = OPTIONS.iter().any(|end| name.ends_with(end));
            if secret && name.len() < option.len() {
                let start = word.len() - option.len() + name.len() + 1;
                return Cow::Owned(format!("{}{HIDDEN}", &word[..start]));
            }
            self.secret_follows = secret;
        }
        variable(word).unwrap_or_else(|| user_info(word))
    }
}

/// A word with `NAME=VALUE` in it whose name says that the value is secret.
fn variable(word: &str) -> Option<Cow<'_, str>> {
    let is_secret = |at: &usize| {
        let name = word[..*at].rsplit(['=', '?', '&', '"', '\'']).next();
        let name = name.unwrap_or_default().to_ascii_lowercase();
        VARIABLES.iter().any(|part| name.contains(part))
    };
    let mut values = word.match_indices('=').map(|(at, _)| at);
    let at = values.find(is_secret)?;
    (at + 1 < word.len()).then(|| Cow::Owned(format!("{}={HIDDEN}", &word[..at])))
}

/// Hides what is before the `@` of an address, with or without a scheme (RFC 3986, section 3.2).
fn user_info(word: &str) -> Cow<'_, str> {
    let Some(at) = word.find('@') else {
        return Cow::Borrowed(word);
    };
    let mut shown = String::new();
    let mut rest = word;
    let mut changed = false;
    while let Some(scheme) = rest.find("://") {
        let start = scheme + 3;
        let end = rest[start..]
            .find(['/', '?', '#', '"', '\'', '<', '>'])
            .map_or(rest.len(), |len| start + len);
        // The next address of a list.
        let next = rest[start..].find("://").map(|len| start + len);
        let end = next.map_or(end, |next| end.min(next));
        shown += &rest[..start];
        match rest[start..end].rfind('@') {
            Some(at) => {
                changed = true;
                shown += HIDDEN;
                shown += &rest[start + at..end];
            }
            None => shown += &rest[start..end],
        }
        rest = &rest[end..];
    }
    if changed || rest.len() < word.len() {
        shown += rest;
        return if changed {
            Cow::Owned(shown)
        } else {
            Cow::Borrowed(word)
        };
    }
    // user:password@host, perhaps as a value.
    let start = word[..at]
        .rfind(['=', '"', '\'', '('])
        .map_or(0, |at| at + 1);
    let end = word.rfind('@').unwrap_or(at);
    // A path may have both characters in it.
    let user_info = &word[start..end];
    if user_info.contains(':') && !user_info.contains('/') {
        Cow::Owned(format!("{}{HIDDEN}{}", &word[..start], &word[end..]))
    } else {
        Cow::Borrowed(word)
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
    }
}
