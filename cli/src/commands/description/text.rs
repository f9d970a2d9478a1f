//! Descriptions and findings as text for people.

use boxbuild_description::{Finding, Format, Summary};
use boxbuild_host::text::shown;

/// Columns of the names on the left.
const LEFT: usize = 14;
/// Columns of a line of names.
const WIDTH: usize = 100;

/// Returns a finding as a line.
pub(super) fn finding(finding: &Finding) -> String {
    let kind = if finding.is_error() { "" } else { "note: " };
    format!("{kind}{finding}")
}

/// Returns what is in a description.
pub(super) fn summary(summary: &Summary) -> String {
    let mut page = Page(String::new());
    let schema = summary.schema_version.as_deref().unwrap_or("none");
    page.line("image", &summary.name);
    page.optional("shown as", summary.display_name.as_deref());
    let markup = match summary.format {
        Format::Xml => "XML",
        Format::Yaml => "YAML",
        Format::Other => "other",
    };
    page.line(
        "file",
        &format!("{} ({markup}, schema {schema})", summary.file),
    );
    page.optional("author", summary.author.as_deref());
    page.optional("contact", summary.contact.as_deref());
    page.optional("for", summary.specification.as_deref());
    for include in &summary.includes {
        page.line(
            "include",
            &format!("{} (line {})", include.file, include.line),
        );
    }
    page.names("parts", &summary.parts);
    for profile in &summary.profiles {
        let mut text = format!("{}  {}", profile.name, profile.description);
        if profile.import {
            text += "  (taken if none is selected)";
        }
        text += &list("  requires ", &profile.requires);
        text += &list("  for ", &profile.arch);
        page.line("profile", &text);
    }
    for section in &summary.preferences {
        let settings = section.settings.iter();
        let settings: Vec<String> = settings
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if !settings.is_empty() {
            let whose = whose(&section.profiles, &section.arch);
            page.line("preferences", &format!("{}{whose}", settings.join(", ")));
        }
    }
    for kind in &summary.types {
        let mut text = format!("{}{}", kind.image, whose(&kind.profiles, &[]));
        if kind.primary {
            text += "  primary";
        }
        for (name, value) in &kind.attributes {
            text += &format!("  {name}={value}");
        }
        page.line("type", &text);
    }
    for repository in &summary.repositories {
        let mut text = repository.source.clone();
        for part in [
            &repository.kind,
            &repository.distribution,
            &repository.components,
            &repository.alias,
        ] {
            text += &part
                .as_deref()
                .map_or_else(String::new, |part| format!("  {part}"));
        }
        if let Some(priority) = &repository.priority {
            text += &format!("  priority {priority}");
        }
        if repository.image_only {
            text += "  (not for the build)";
        }
        text += &whose(&repository.profiles, &repository.arch);
        page.line("repository", &text);
    }
    for group in &summary.packages {
        let left = format!("{}{}", group.kind, whose(&group.profiles, &group.arch));
        page.line("packages", &format!("{left}: {}", group.packages.len()));
        page.names("", &group.packages);
        page.names(
            "",
            &group
                .collections
                .iter()
                .map(|name| format!("@{name}"))
                .collect::<Vec<_>>(),
        );
        page.names("", &group.archives);
    }
    for user in &summary.users {
        let mut text = user.name.clone();
        text += &user
            .id
            .as_ref()
            .map_or_else(String::new, |id| format!("  {id}"));
        text += &list("  groups ", &user.groups);
        text += &user
            .home
            .as_ref()
            .map_or_else(String::new, |home| format!("  {home}"));
        text += &whose(&user.profiles, &[]);
        page.line("user", &text);
    }
    if let Some(selected) = &summary.selected {
        let with = list(" with the profile ", &selected.profiles);
        page.line("builds", &format!("{}{with}", selected.image_type));
    }
    page.0
}

/// Returns a list behind a word; nothing for an empty one.
fn list(word: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("{word}{}", names.join(", "))
}

/// Returns what a section is limited to.
fn whose(profiles: &[String], arch: &[String]) -> String {
    let limits: Vec<&str> = profiles.iter().chain(arch).map(String::as_str).collect();
    if limits.is_empty() {
        return String::new();
    }
    format!("  [{}]", limits.join(", "))
}

struct Page(String);

impl Page {
    fn line(&mut self, name: &str, text: &str) {
        let text = shown(text);
        self.0 += format!("{name:<LEFT$} {text}").trim_end();
        self.0.push('\n');
    }

    fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            let words: Vec<&str> = text.split_whitespace().collect();
            self.line(name, &words.join(" "));
        }
    }

    /// Adds names, several a line.
    fn names(&mut self, name: &str, names: &[String]) {
        let mut name = name;
        let mut line = String::new();
        for one in names {
            if !line.is_empty() && line.len() + one.len() > WIDTH - LEFT {
                self.line(name, &line);
                (name, line) = ("", String::new());
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += one;
        }
        if !line.is_empty() {
            self.line(name, &line);
        }
    }
}
