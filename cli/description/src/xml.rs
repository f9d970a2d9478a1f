//! XML within limits: what is beyond them is not looked at here.

use std::sync::Arc;

use roxmltree::{Document, Error, Node, NodeId, ParsingOptions, TextPos};

use crate::element::{Element, Place};

/// libxml2's limit for nested elements (`XML_PARSE_HUGE` in parserInternals.h; kiwi does not set it).
const DEEPEST: usize = 256;

/// Most nodes that are looked at.
const MOST_NODES: u32 = 300_000;

/// Most attributes of one element that are looked at: the parser compares each with all.
const MOST_ATTRIBUTES: usize = 2_000;

/// Most declarations of namespaces that are looked at: the parser compares each with all, in each element
/// that has one.
const MOST_NAMESPACES: usize = 200;

/// Longest name of a namespace that is kept, in bytes: each element has a copy.
const LONGEST_NAMESPACE: usize = 256;

/// Most bytes that entities may come to.
pub(crate) const MOST_EXPANDED: usize = 256 << 20;

/// How many references within one are followed ([`roxmltree`]'s own limit).
const NESTED_REFERENCES: usize = 255;

/// Why there is no tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// What is wrong.
    pub(crate) text: String,
    /// The line, or 0.
    pub(crate) line: u32,
    /// No kiwi reads it either.
    pub(crate) certain: bool,
}

/// Reads the text of the file `name` and returns its root.
pub(crate) fn parse(text: &str, name: &Arc<str>) -> Result<Element, Malformed> {
    let beyond = |what: &str| {
        Err(Malformed {
            text: format!("{what}: it is not looked at on this host"),
            line: 0,
            certain: false,
        })
    };
    if text.trim().is_empty() {
        return Err(Malformed {
            text: String::from("is empty"),
            line: 0,
            certain: true,
        });
    }
    let has_dtd = text.contains("<!DOCTYPE");
    if expanded(text) > MOST_EXPANDED {
        return beyond("it has too many entities");
    }
    if text.matches("xmlns").count() > MOST_NAMESPACES {
        return beyond("it has too many namespaces");
    }
    // No value of an attribute has a `<`.
    if text
        .split('<')
        .any(|part| part.bytes().filter(|byte| *byte == b'=').count() > MOST_ATTRIBUTES)
    {
        return beyond("an element has too many attributes");
    }
    let options = ParsingOptions {
        allow_dtd: true,
        nodes_limit: MOST_NODES,
        entity_resolver: None,
    };
    match Document::parse_with_options(text, options) {
        Ok(document) => Tree {
            document: &document,
            lines: Lines::new(text),
            file: name,
        }
        .build(),
        Err(Error::NodesLimitReached) => beyond("it has too many elements"),
        // What a document type does is libxml2's to say.
        Err(error) => Err(malformed(&error, text, !has_dtd)),
    }
}

/// Returns how many bytes the entities of a text come to at most.
pub(crate) fn expanded(text: &str) -> usize {
    if !text.contains("<!ENTITY") {
        return 0;
    }
    let references = text.bytes().filter(|byte| *byte == b'&').count();
    references
        .saturating_mul(NESTED_REFERENCES)
        .saturating_mul(text.len())
}

fn malformed(error: &Error, text: &str, certain: bool) -> Malformed {
    let place = error.pos();
    let message = error.to_string();
    let message = message
        .strip_suffix(&format!(" at {place}"))
        .unwrap_or(&message);
    let (message, line) = match error {
        Error::UnclosedRootNode => (
            String::from("the file ends before its elements are closed"),
            u32::try_from(text.lines().count()).unwrap_or(u32::MAX),
        ),
        Error::NoRootNode => (String::from("there is no element in it"), 1),
        Error::UnexpectedCloseTag(expected, actual, _) => (
            format!("expected the end of {expected} (</{expected}>), not </{actual}>"),
            place.row,
        ),
        Error::UnknownNamespace(prefix, _) => (
            format!("the prefix {prefix}: is not declared (xmlns:{prefix})"),
            place.row,
        ),
        Error::UnknownEntityReference(name, _) => {
            (format!("there is no entity &{name};"), place.row)
        }
        _ => (message.to_owned(), place.row),
    };
    let TextPos { col, .. } = place;
    Malformed {
        text: match error {
            Error::UnclosedRootNode | Error::NoRootNode => format!("malformed XML: {message}"),
            _ => format!("malformed XML: {message} (column {col})"),
        },
        line,
        certain,
    }
}

/// Line numbers of a text.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines(ends.map(|(at, _)| at).collect())
    }

    fn of(&self, at: usize) -> u32 {
        let before = self.0.partition_point(|end| *end < at);
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// A parsed document on its way to elements of ours.
struct Tree<'a> {
    document: &'a Document<'a>,
    lines: Lines,
    file: &'a Arc<str>,
}

impl Tree<'_> {
    /// Builds the elements from the leaves up, without recursion: depth is checked on the way.
    fn build(&self) -> Result<Element, Malformed> {
        let mut open: Vec<(Element, NodeId)> = Vec::new();
        let mut node = self.document.root_element();
        loop {
            if node.is_element() {
                if open.len() >= DEEPEST {
                    return Err(Malformed {
                        text: format!("elements are nested deeper than {DEEPEST}"),
                        line: self.lines.of(node.range().start),
                        certain: false,
                    });
                }
                open.push((self.element(node), node.id()));
                if let Some(child) = node.first_child() {
                    node = child;
                    continue;
                }
            } else if let (Some(text), Some((parent, _))) = (text_of(node), open.last_mut()) {
                parent.text.push_str(text);
            }
            // Close what has come to its end.
            loop {
                if open.last().is_some_and(|(_, id)| *id == node.id()) {
                    let Some((mut done, _)) = open.pop() else {
                        return Err(self.broken());
                    };
                    done.text = done.text.trim().to_owned();
                    match open.last_mut() {
                        Some((parent, _)) => parent.children.push(done),
                        None => return Ok(done),
                    }
                }
                if let Some(next) = node.next_sibling() {
                    node = next;
                    break;
                }
                node = node.parent().ok_or_else(|| self.broken())?;
            }
        }
    }

    fn element(&self, node: Node<'_, '_>) -> Element {
        let tag = node.tag_name();
        let name = match tag.namespace() {
            Some(space) => {
                let end = space.floor_char_boundary(LONGEST_NAMESPACE);
                format!("{{{}}}{}", &space[..end], tag.name())
            }
            None => tag.name().to_owned(),
        };
        Element {
            name,
            attributes: node
                .attributes()
                .map(|attribute| (attribute.name().to_owned(), attribute.value().to_owned()))
                .collect(),
            text: String::new(),
            children: Vec::new(),
            place: Place {
                file: Arc::clone(self.file),
                line: self.lines.of(node.range().start),
            },
        }
    }

    /// What cannot be: each node has a parent up to the root.
    fn broken(&self) -> Malformed {
        Malformed {
            text: String::from("its elements cannot be followed"),
            line: 0,
            certain: false,
        }
    }
}

fn text_of<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    node.is_text().then(|| node.text()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Element, Malformed> {
        parse(text, &"f".into())
    }

    #[test]
    fn elements_know_their_lines() {
        let root = read(
            "<?xml version=\"1.0\"?>\n<!-- c --><image a='1'>\n<b>x<!-- -->y</b>\n\n<c\n d='e'/>\n</image>\n<!-- end -->",
        )
        .unwrap();
        assert_eq!((root.name.as_str(), root.place.line), ("image", 2));
        assert_eq!(root.attribute("a"), Some("1"));
        assert_eq!(root.text_of("b"), Some("xy"));
        let lines: Vec<u32> = root.children.iter().map(|child| child.place.line).collect();
        assert_eq!(lines, [3, 5]);
    }

    #[test]
    fn a_malformed_file_is_named_with_its_line() {
        for (text, line, word) in [
            ("<image>\n<a>\n</image>", 3, "</a>"),
            ("<image>\n<a b='1' b='2'/></image>", 2, "b"),
            ("<image>\n&nbsp;</image>", 2, "nbsp"),
            ("<image>\n\n<x:a/></image>", 3, "x"),
            ("<image>\n<a b='<'/></image>", 2, ""),
            ("<image>\n", 1, "ends before"),
            ("<image/>\ntext", 2, ""),
            ("<image>a & b</image>", 1, ""),
            ("text", 1, ""),
            ("\n<?xml version=\"1.0\"?><image/>", 2, ""),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                error.certain && error.line == line && error.text.contains(word),
                "{text}: {error:?}"
            );
        }
        assert_eq!(read(" \n").unwrap_err().text, "is empty");
    }

    #[test]
    fn hostile_files_are_not_followed() {
        let deep = "<a>".repeat(200_000);
        assert!(!read(&deep).unwrap_err().text.is_empty());
        let nested = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
        assert!(!read(&nested).unwrap_err().certain);
        let most = format!("{}{}", "<a>".repeat(DEEPEST), "</a>".repeat(DEEPEST));
        assert!(read(&most).is_ok());
        let attributes: String = (0..100_000).map(|n| format!(" a{n}='>'")).collect();
        assert!(!read(&format!("<a{attributes}/>")).unwrap_err().certain);
        let many = format!("<a>{}</a>", "<b/>".repeat(300_001));
        assert!(!read(&many).unwrap_err().certain);
        let lol: String = (1..10)
            .map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10)))
            .collect();
        let text = format!("<!DOCTYPE a [<!ENTITY e0 \"aaaa\">{lol}]><a>&e9;</a>");
        assert!(!read(&text).unwrap_err().certain);
        // Namespaces, each compared with all others: hours.
        let declared = |n: usize| {
            let of_element = n * 1_000..(n + 1) * 1_000;
            let names: String = of_element.map(|n| format!(" xmlns:n{n}='u'")).collect();
            format!("<b{names}>")
        };
        let spaces: String = (0..100).map(declared).collect();
        assert!(!read(&format!("<a>{spaces}")).unwrap_err().certain);
        // One whose name each element has.
        let space = "u".repeat(1 << 20);
        let root = read(&format!("<a xmlns='{space}'>{}</a>", "<b/>".repeat(1_000))).unwrap();
        assert!(root.children.iter().all(|child| child.name.len() < 1_000));
        let quadratic = format!(
            "<!DOCTYPE a [<!ENTITY e \"{}\">]><a>{}</a>",
            "x".repeat(100_000),
            "&e;".repeat(100_000)
        );
        assert!(!read(&quadratic).unwrap_err().certain);
    }

    #[test]
    fn entities_of_the_file_are_replaced() {
        let root = read("<!DOCTYPE a [<!ENTITY e \"x\">]>\n<a b='&e;'>&e;&lt;</a>").unwrap();
        assert_eq!((root.attribute("b"), root.text.as_str()), (Some("x"), "x<"));
        // What only libxml2 knows how to read is its to refuse.
        let error = read("<!DOCTYPE a [<!ENTITY e SYSTEM \"x\">]>\n<a>&e;</a>").unwrap_err();
        assert!(!error.certain);
    }
}
