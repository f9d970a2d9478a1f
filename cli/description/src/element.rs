//! The elements of a description, of whatever markup it is.

use std::sync::Arc;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the user knows it.
    pub file: Arc<str>,
    /// The line, from 1; 0 if it is not known.
    pub line: u32,
}

impl Place {
    /// The file as a whole.
    pub fn file(name: &str) -> Place {
        Place {
            file: name.into(),
            line: 0,
        }
    }
}

/// An element with what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The name; that of an element of a namespace begins with `{NAMESPACE}`.
    pub name: String,
    /// Names and values.
    pub attributes: Vec<(String, String)>,
    /// The text directly in it, trimmed.
    pub text: String,
    /// The elements directly in it.
    pub children: Vec<Element>,
    /// Where it begins.
    pub place: Place,
}

impl Element {
    /// Returns the value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether an attribute is true as XML Schema has it (section 3.2.2).
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.attribute(name), Some("true" | "1"))
    }

    /// Returns the elements of this name directly in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Returns the text of the first element of this name directly in it, if there is one that has
    /// some.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        let named = self.children.iter().filter(|child| child.name == name);
        named
            .map(|child| child.text.as_str())
            .find(|text| !text.is_empty())
    }

    /// Returns the items of an attribute whose value is a list with commas, as kiwi takes it apart:
    /// white space counts.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.attribute(name)
            .filter(|value| !value.is_empty())
            .map(|value| value.split(',').collect())
            .unwrap_or_default()
    }

    /// Returns whether the element is for `arch`; without one, for any.
    pub fn is_for(&self, arch: Option<&str>) -> bool {
        let known = self.list("arch");
        arch.is_none_or(|arch| known.is_empty() || known.contains(&arch))
    }
}
