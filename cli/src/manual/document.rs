//! A text of paragraphs, lists and code, for a terminal or as roff.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Columns of a text on a terminal.
const WIDTH: usize = 80;

/// What the meaning of a list's entry begins with.
const INDENT: &str = "          ";

/// A text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Document(Vec<Block>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Block {
    Heading(String),
    Paragraph(String),
    /// A word, and what it means.
    Item(String, String),
    /// Lines that stay as they are.
    Code(String),
}

impl Document {
    /// Adds a heading.
    pub(super) fn heading(mut self, text: &str) -> Document {
        self.0.push(Block::Heading(text.to_owned()));
        self
    }

    /// Adds a paragraph.
    pub(super) fn paragraph(mut self, text: &str) -> Document {
        self.0.push(Block::Paragraph(text.to_owned()));
        self
    }

    /// Adds a list of words and their meanings.
    pub(super) fn items<W: Into<String>, M: Into<String>>(
        mut self,
        items: impl IntoIterator<Item = (W, M)>,
    ) -> Document {
        let items = items
            .into_iter()
            .map(|(word, meaning)| Block::Item(word.into(), meaning.into()));
        self.0.extend(items);
        self
    }

    /// Adds lines that stay as they are.
    pub(super) fn code(mut self, lines: &str) -> Document {
        self.0.push(Block::Code(lines.to_owned()));
        self
    }

    /// Returns the text for a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut before: Option<&Block> = None;
        for block in &self.0 {
            let in_list = matches!(
                (before, block),
                (Some(Block::Item(..)), Block::Item(..)) | (Some(Block::Heading(_)), _) | (None, _)
            );
            if !in_list {
                text.push('\n');
            }
            match block {
                Block::Heading(heading) => text += &format!("{heading}:\n"),
                Block::Paragraph(paragraph) => text += &wrapped(paragraph, "", WIDTH),
                Block::Item(word, meaning) => {
                    let meaning = wrapped(meaning, INDENT, WIDTH);
                    // A short word stands in front of its meaning.
                    if word.len() + 4 <= INDENT.len() {
                        let rest = &meaning[INDENT.len()..];
                        text += &format!("  {word:<0$}{rest}", INDENT.len() - 2);
                    } else {
                        text += &format!("  {word}\n{meaning}");
                    }
                }
                Block::Code(lines) => {
                    for line in lines.lines() {
                        text += format!("    {line}").trim_end();
                        text.push('\n');
                    }
                }
            }
            before = Some(block);
        }
        text
    }

    /// Adds the text to a manual page; headings within it are subsections.
    pub(crate) fn add_to(&self, page: &mut Roff) {
        for block in &self.0 {
            match block {
                Block::Heading(heading) => {
                    page.control("SS", [heading.as_str()]);
                }
                Block::Paragraph(paragraph) => {
                    page.control("PP", []);
                    page.text([roman(paragraph.as_str())]);
                }
                Block::Item(word, meaning) => {
                    page.control("TP", []);
                    page.text(emphasised(word));
                    page.text([roman(meaning.as_str())]);
                }
                Block::Code(lines) => {
                    page.control("PP", []);
                    page.control("RS", ["4"]);
                    page.control("nf", []);
                    for line in lines.lines() {
                        page.text([roman(line)]);
                    }
                    page.control("fi", []);
                    page.control("RE", []);
                }
            }
        }
    }
}

/// Returns the words of a list's entry: what is typed is bold, what stands for something italic.
fn emphasised(text: &str) -> Vec<Inline> {
    let mut words = Vec::new();
    for (number, word) in text.split(' ').enumerate() {
        if number > 0 {
            words.push(roman(" "));
        }
        let stands_for = word.len() > 1
            && !word.starts_with('-')
            && !word.contains('_')
            && word.chars().all(|c| c.is_ascii_uppercase() || c == '=');
        words.push(if stands_for { italic(word) } else { bold(word) });
    }
    words
}

/// Breaks a paragraph into lines of at most `width` columns that begin with `indent`.
fn wrapped(paragraph: &str, indent: &str, width: usize) -> String {
    let mut text = String::new();
    let mut line = String::new();
    for word in paragraph.split_whitespace() {
        let length = indent.len() + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && length > width {
            text += &format!("{indent}{line}\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    text + indent + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Document {
        Document::default()
            .paragraph(&"word ".repeat(30))
            .heading("Things")
            .items([("--one FILE", "the first"), ("two", "the second")])
            .code("a\n  b")
    }

    #[test]
    fn a_text_fits_the_terminal() {
        let text = sample().text();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(
            text.contains("\nThings:\n  --one FILE\n          the first\n  two     the second\n"),
            "{text}"
        );
        assert!(text.ends_with("\n\n    a\n      b\n"), "{text}");
    }

    #[test]
    fn a_page_has_the_same_words() {
        let mut page = Roff::default();
        sample().add_to(&mut page);
        let page = page.render();
        for text in [
            ".SS Things",
            "\\fB\\-\\-one\\fR \\fIFILE\\fR",
            "the second",
            ".nf",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
    }
}
