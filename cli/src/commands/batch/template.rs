//! Names and target folders with fields in braces.

use std::path::Path;

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

/// Returns `template` with values in place of the fields. A field without a value is empty.
///
/// # Errors
/// Fails, with a message for the user, if a field is not known or a brace is not closed.
pub(super) fn fill(template: &str, fields: &Fields<'_>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (field, after) = behind
            .split_once('}')
            .ok_or_else(|| format!("'{template}' has a brace that is not closed"))?;
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
            _ => {
                return Err(format!(
                    "'{template}' has {{{field}}}; known are {{name}}, {{description}}, \
                     {{profile}}, {{type}}, {{box}} and {{arch}}"
                ));
            }
        };
        rest = after;
    }
    Ok(text + rest)
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
