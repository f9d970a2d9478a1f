//! Names and target folders with fields in braces.

use std::path::Path;

use boxbuild_host::nearest::{TYPO, nearest};

/// The values of the fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    pub(super) profiles: &'a [String],
    pub(super) image_type: Option<&'a str>,
    pub(super) box_name: &'a str,
    pub(super) arch: Option<&'a str>,
}

/// Where a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The name of a build.
    Name,
    /// A target folder.
    Target,
}

/// The fields of target folders; names have all but the first.
const FIELDS: &[&str] = &["name", "description", "profile", "type", "box", "arch"];

/// Returns what is wrong with a template: unknown fields, unclosed braces.
pub(super) fn problems(template: &str, place: Place) -> Vec<String> {
    let known = match place {
        Place::Name => &FIELDS[1..],
        Place::Target => FIELDS,
    };
    let mut problems = Vec::new();
    let mut rest = template;
    while let Some((_, behind)) = rest.split_once('{') {
        let Some((field, after)) = behind.split_once('}') else {
            problems.push(format!("'{template}' has a brace that is not closed"));
            break;
        };
        if !known.contains(&field) {
            let hint = nearest(field, known.iter().copied(), TYPO).map_or_else(
                || {
                    let braced: Vec<String> =
                        known.iter().map(|name| format!("{{{name}}}")).collect();
                    format!("known are {}", braced.join(", "))
                },
                |near| format!("did you mean {{{near}}}?"),
            );
            problems.push(format!("'{template}' has {{{field}}}; {hint}"));
        }
        rest = after;
    }
    problems
}

/// Returns `template` with values in place of the fields. A field without a value is empty; unknown
/// ones stay as they are ([`problems`]).
pub(super) fn fill(template: &str, fields: &Fields<'_>) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((field, after)) = behind.split_once('}') else {
            break;
        };
        text += before;
        text += &match field {
            "name" => fields.name.to_owned(),
            // `.` and `..` have no file name.
            "description" => Path::new(fields.description)
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            "profile" => fields.profiles.join("+"),
            "type" => fields.image_type.unwrap_or_default().to_owned(),
            "box" => fields.box_name.to_owned(),
            "arch" => fields.arch.unwrap_or_default().to_owned(),
            _ => format!("{{{field}}}"),
        };
        rest = after;
    }
    text + rest
}

/// Returns `text` as a file name that is also fit for the beginning of a line. Empty parts between
/// dashes, which fields without a value leave, are dropped.
pub(super) fn file_name(text: &str) -> String {
    let words: Vec<String> = text
        .split('-')
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.chars()
                .map(|c| {
                    if c.is_alphanumeric() || "._+".contains(c) {
                        c
                    } else {
                        '_'
                    }
                })
                .collect()
        })
        .collect();
    let name: String = words.join("-").chars().take(100).collect();
    match name.trim_start_matches('.') {
        "" => String::from("build"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names() {
        assert_eq!(file_name("a--b-"), "a-b");
        assert_eq!(file_name("../x y/ü"), "_x_y_ü");
        assert_eq!(file_name("--"), "build");
        assert_eq!(file_name("..."), "build");
    }
}
