//! Checksums in the format of `sha256sum` (GNU coreutils).

use std::collections::BTreeMap;

use boxbuild_host::text::is_harmful;

/// Length of a SHA-256 in hexadecimal digits.
const DIGITS: usize = 64;

/// Checksums of files, by their paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, String>);

/// A text is not a list of checksums.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumsError {
    /// A line is something else.
    #[error("line {0} is not a checksum and a file in this folder")]
    Line(usize),
    /// A file is there twice.
    #[error("line {0} is about a file that has a checksum already")]
    Twice(usize),
    /// It is readable, but not as it was written.
    #[error("it is not as it was written: its lines are out of order, or something follows them")]
    Form,
}

impl Sums {
    /// Adds a file.
    pub fn add(&mut self, path: String, sha256: String) {
        self.0.insert(path, sha256);
    }

    /// The SHA-256 of a file, in lower-case hex.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Files and their SHA-256, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(path, sha256)| (path.as_str(), sha256.as_str()))
    }

    /// The text, for `sha256sum --check`.
    pub fn text(&self) -> String {
        self.iter()
            .map(|(path, sha256)| match path.contains('\\') {
                // coreutils 9, "md5sum invocation".
                true => format!("\\{sha256}  {}\n", path.replace('\\', "\\\\")),
                false => format!("{sha256}  {path}\n"),
            })
            .collect()
    }

    /// Reads what [`Sums::text`] wrote, and nothing else: a byte that could be another one would be a
    /// byte that nothing covers.
    ///
    /// # Errors
    /// Fails if it is anything else.
    pub fn parse(text: &str) -> Result<Sums, SumsError> {
        let mut sums = Sums::default();
        for (number, line) in (1..).zip(text.lines()) {
            let (path, sha256) = entry(line).ok_or(SumsError::Line(number))?;
            if sums.0.insert(path, sha256).is_some() {
                return Err(SumsError::Twice(number));
            }
        }
        if sums.text() != text {
            return Err(SumsError::Form);
        }
        Ok(sums)
    }
}

fn entry(line: &str) -> Option<(String, String)> {
    let (line, escaped) = match line.strip_prefix('\\') {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (sha256, path) = line.split_once("  ")?;
    let path = match escaped {
        true => path.replace("\\\\", "\\"),
        false => path.to_owned(),
    };
    (is_sha256(sha256) && is_path(&path)).then(|| (path, sha256.to_owned()))
}

/// Whether a text is a SHA-256 in lower-case hex.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == DIGITS
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path stays in its folder, and can be shown.
fn is_path(path: &str) -> bool {
    !path.chars().any(is_harmful)
        && path
            .split('/')
            .all(|component| !matches!(component, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn what_coreutils_writes_is_read() {
        let text = format!("{SUM}  a b\n\\{SUM}  back\\\\slash\n{SUM}  folder/file\n");
        let sums = Sums::parse(&text).unwrap();
        assert_eq!(sums.get("back\\slash"), Some(SUM));
        assert_eq!(sums.get("folder/file"), Some(SUM));
        assert_eq!(sums.text(), text);
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in [
            "../x",
            "/etc/passwd",
            "a/../b",
            "a//b",
            "a/",
            ".",
            "",
            "a\u{9b}b",
        ] {
            let text = format!("{SUM}  {path}\n");
            assert_eq!(Sums::parse(&text), Err(SumsError::Line(1)), "{path}");
        }
    }

    #[test]
    fn no_byte_of_a_list_is_free() {
        let text = format!("{SUM}  a\n{SUM}  b c\n");
        let good = Sums::parse(&text).unwrap();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_ne!(Sums::parse(&changed).as_ref(), Ok(&good), "{changed:?}");
        }
        for odd in [
            format!("{SUM}  b\n{SUM}  a\n"),
            format!("{SUM}  a\n{SUM}  a\n"),
            format!("{SUM}  a"),
            format!("{SUM}  a\n\n"),
            format!("{SUM}  a\r\n"),
            format!("{SUM} *a\n"),
        ] {
            assert!(Sums::parse(&odd).is_err(), "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            let _ = Sums::parse(&text);
        }

        #[test]
        fn what_is_written_is_read_back(paths in proptest::collection::btree_set("[a-z\\\\ é]{1,9}(/[a-z\\\\]{1,5})?", 0..9)) {
            let mut sums = Sums::default();
            for path in paths {
                sums.add(path, SUM.to_owned());
            }
            prop_assert_eq!(Sums::parse(&sums.text()), Ok(sums));
        }
    }
}
