//! Descriptions in YAML or JSON, which kiwi reads where Python's anymarkup is installed: attributes
//! are keys that begin with `@`, text is the key `#text` (as Python's xmltodict has it).

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::element::{Element, Place};
use crate::xml::{self, Malformed};

/// Deepest nesting: as in XML.
const DEEPEST: usize = 256;

/// Longest key that is looked at, in bytes: each item of its list has a copy. No element of kiwi's has
/// such a name.
const LONGEST_KEY: usize = 256;

/// Most bytes that aliases may come to.
const MOST_EXPANDED: usize = xml::MOST_EXPANDED;

/// A node of YAML. Scalars are text.
enum Node {
    Nothing,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Reads the text of the file `name` and returns its root element.
///
/// # Errors
/// Fails if it cannot be read here. Another reader of YAML may be of another opinion.
pub(crate) fn parse(text: &str, name: &Arc<str>) -> Result<Element, Malformed> {
    let refused = |text: String, line: u32| Malformed {
        text,
        line,
        certain: false,
    };
    // Python's reader takes the last of several equal keys.
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        // An alias may stand for nearly all of the text.
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MOST_EXPANDED / text.len().max(1),
        },
    };
    let node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error
            .location()
            .and_then(|location| u32::try_from(location.line()).ok());
        refused(said(&error), line.unwrap_or(0))
    })?;
    let place = Place {
        file: Arc::clone(name),
        line: 0,
    };
    let Node::Map(mut entries) = node else {
        return Err(Malformed {
            text: if text.starts_with("version https://git-lfs") {
                String::from(
                    "is a pointer of Git LFS, not the file itself: fetch it with git lfs pull",
                )
            } else {
                String::from("is neither XML nor a mapping in YAML")
            },
            line: 1,
            certain: true,
        });
    };
    match (entries.pop(), entries.is_empty()) {
        (Some((root, node)), true) => element(root, node, &place, 0)
            .ok_or_else(|| refused(String::from("its elements are nested too deep"), 0)),
        _ => Err(refused(
            String::from("has not exactly one key on its top level"),
            1,
        )),
    }
}

/// What an error of the reader means, without the terms of its interface.
fn said(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let too_much = String::from(
        "has too many nodes, anchors or levels in YAML to be looked at on this host: the box decides",
    );
    match error.without_snippet() {
        Error::MultipleDocuments { .. } => {
            String::from("has several YAML documents (---): kiwi reads one")
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            String::from("malformed YAML: an anchor contains itself")
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => too_much,
        Error::AliasError { error, .. } => said(error),
        other => {
            let message = other.to_string();
            let message = message.lines().next().unwrap_or_default();
            // The finding has the line.
            let message = message
                .split_once(" at line ")
                .map_or(message, |(text, _)| text);
            format!("malformed YAML: {message}")
        }
    }
}

fn element(name: String, node: Node, place: &Place, depth: usize) -> Option<Element> {
    if depth >= DEEPEST {
        return None;
    }
    let mut element = Element {
        name,
        attributes: Vec::new(),
        text: String::new(),
        children: Vec::new(),
        place: place.clone(),
    };
    match node {
        Node::Nothing | Node::List(_) => {}
        Node::Scalar(text) => element.text = text.trim().to_owned(),
        Node::Map(entries) => {
            for (key, value) in entries {
                if let Some(attribute) = key.strip_prefix('@') {
                    if let Node::Scalar(value) = value {
                        element.attributes.push((attribute.to_owned(), value));
                    }
                } else if key == "#text" {
                    if let Node::Scalar(text) = value {
                        element.text = text.trim().to_owned();
                    }
                } else {
                    let children = match value {
                        Node::List(list) => list,
                        single => vec![single],
                    };
                    for child in children {
                        let child = self::element(key.clone(), child, place, depth + 1)?;
                        element.children.push(child);
                    }
                }
            }
        }
    }
    Some(element)
}

struct Any;

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // As Python prints it: 8.0, not 8.
        Ok(Node::Scalar(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Node, Node>()? {
            if let Node::Scalar(key) = key
                && key.len() <= LONGEST_KEY
            {
                entries.push((key, value));
            }
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Element, Malformed> {
        parse(text, &"f".into())
    }

    #[test]
    fn yaml_and_json_are_the_same_elements_as_xml() {
        let yaml = "image:\n  '@schemaversion': 8.0\n  '@name': x\n  preferences:\n  - type:\n      \
                    '@image': tbz\n      '@primary': true\n    version: 1.2.3\n  - version:\n      '#text': z\n";
        let json = r#"{"image": {"@schemaversion": "8.0", "@name": "x", "preferences": [
            {"type": {"@image": "tbz", "@primary": "true"}, "version": "1.2.3"}, {"version": "z"}]}}"#;
        for text in [yaml, json] {
            let root = read(text).unwrap();
            assert_eq!(root.name, "image");
            assert_eq!(root.attribute("schemaversion"), Some("8.0"));
            let preferences: Vec<_> = root.all("preferences").collect();
            assert_eq!(preferences.len(), 2);
            let kind = preferences[0].all("type").next().unwrap();
            assert!(kind.is_set("primary") && kind.attribute("image") == Some("tbz"));
            assert_eq!(preferences[1].text_of("version"), Some("z"));
        }
    }

    /// The reader's own terms were shown ("use from_str_multiple", "Nodes { nodes: 250001 }").
    #[test]
    fn what_the_reader_refuses_is_said_in_words() {
        let bomb = (1..12).fold(String::from("a0: &a0 [x]\n"), |text, n| {
            format!(
                "{text}a{n}: &a{n} [{}]\n",
                vec![format!("*a{}", n - 1); 9].join(",")
            )
        });
        for (text, words, certain) in [
            (
                "---\nimage: {}\n---\nimage: {}\n",
                "several YAML documents",
                false,
            ),
            ("image: &a\n  x: *a\n", "contains itself", false),
            (bomb.as_str(), "the box decides", false),
            ("image:\n\tx: y\n", "tabs", false),
            ("#!/bin/sh\necho\n", "neither XML", true),
            ("- a\n", "neither XML", true),
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
                "git lfs pull",
                true,
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.text.contains(words), "{text}: {error:?}");
            assert!(!error.text.contains(" at line "), "{text}: {error:?}");
            assert_eq!(error.certain, certain, "{text}: {error:?}");
        }
    }

    #[test]
    fn other_texts_are_named() {
        let error = read("image:\n  a: [1\n  b: }\n").unwrap_err();
        assert!(
            error.line >= 2 && error.text.contains("malformed YAML"),
            "{error:?}"
        );
        for text in ["", "word", "- a\n", "a: 1\nb: 2\n"] {
            assert!(read(text).is_err(), "{text}");
        }
        let deep = format!("{}{}", "{a: ".repeat(100_000), "}".repeat(100_000));
        assert!(read(&deep).is_err());
        let lol = (1..30).fold(String::from("a0: &a0 [x]\n"), |text, n| {
            format!(
                "{text}a{n}: &a{n} [*a{p}, *a{p}, *a{p}, *a{p}]\n",
                p = n - 1
            )
        });
        assert!(read(&lol).is_err());
        // A long text, and a long name, once for each of many items: gigabytes.
        let long = "x".repeat(1 << 20);
        let aliases = format!("image:\n  a: &a {long}\n  b: [{}]\n", "*a,".repeat(10_000));
        let error = read(&aliases).unwrap_err();
        assert!(error.text.contains("the box decides"), "{error:?}");
        let name = format!("image:\n  a: b\n  {long}: [{}]\n", "1,".repeat(10_000));
        let read = read(&name);
        assert!(read.is_err() || read.unwrap().children.len() == 1);
    }
}
