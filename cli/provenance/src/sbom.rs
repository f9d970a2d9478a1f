//! The software bill of materials: SPDX 2.3 as JSON.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use boxbuild_host::digest::hex;

use crate::observed::OsRelease;
use crate::packages::Package;
use crate::purl::purl;

/// What is not known (SPDX 2.3, section 4.6).
const UNKNOWN: &str = "NOASSERTION";
/// The document itself (section 6.3).
const DOCUMENT: &str = "SPDXRef-DOCUMENT";
/// The image, of which the result files are forms.
const IMAGE: &str = "SPDXRef-Image";
/// Where documents of those are named who have no domain of their own (section 6.5).
const NAMESPACE: &str = "https://spdx.org/spdxdocs";

/// What a bill of materials is made of.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// Name of the image.
    pub name: &'a str,
    /// When it was made (RFC 3339, UTC).
    pub created: &'a str,
    /// Name and version of the program.
    pub tool: &'a str,
    /// Result files and their SHA-256.
    pub files: &'a [(String, String)],
    /// What is installed in the image.
    pub packages: &'a [Package],
    /// Its distribution.
    pub os: Option<&'a OsRelease>,
}

/// A document. What is read of it is what a check compares.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Version of SPDX.
    pub spdx_version: String,
    data_license: String,
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    /// The image, its files, and what is in it.
    pub packages: Vec<Entry>,
    relationships: Vec<Relationship>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

/// A package in the words of SPDX: the image, one of its files, or a package in it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    /// The result file that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package_file_name: Option<String>,
    download_location: String,
    files_analyzed: bool,
    /// Checksums of the result file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    license_concluded: String,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    copyright_text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
}

/// A checksum of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    /// `SHA256`.
    pub algorithm: String,
    /// In lower-case hex.
    pub checksum_value: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: String,
    reference_type: String,
    reference_locator: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: String,
    related_spdx_element: String,
}

impl Document {
    /// The document on these contents: the same contents, the same document.
    pub fn new(contents: Contents<'_>) -> Document {
        let mut packages = vec![image(&contents)];
        let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", IMAGE)];
        for (number, (name, sha256)) in (1..).zip(contents.files) {
            let entry = file(number, name, sha256);
            relationships.push(relationship(&entry.id, "VARIANT_OF", IMAGE));
            packages.push(entry);
        }
        for (number, package) in (1..).zip(contents.packages) {
            let entry = installed(number, package, contents.os);
            relationships.push(relationship(IMAGE, "CONTAINS", &entry.id));
            packages.push(entry);
        }
        let name = contents.name.to_owned();
        let word: String = name
            .chars()
            .map(|char| match char {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' => char,
                _ => '-',
            })
            .collect();
        Document {
            spdx_version: String::from("SPDX-2.3"),
            data_license: String::from("CC0-1.0"),
            id: DOCUMENT.to_owned(),
            document_namespace: format!("{NAMESPACE}/{word}-{}", fingerprint(&contents)),
            name,
            creation_info: CreationInfo {
                created: contents.created.to_owned(),
                creators: vec![format!("Tool: {}", contents.tool)],
            },
            packages,
            relationships,
        }
    }
}

/// What tells this document from all others, which its name must (section 6.5).
fn fingerprint(contents: &Contents<'_>) -> String {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    add(contents.created);
    add(contents.tool);
    for (name, sha256) in contents.files {
        add(name);
        add(sha256);
    }
    for package in contents.packages {
        add(&package.name);
        add(&package.version);
    }
    hex(&hash.finalize())
}

fn blank() -> Entry {
    Entry {
        download_location: UNKNOWN.to_owned(),
        license_concluded: UNKNOWN.to_owned(),
        license_declared: UNKNOWN.to_owned(),
        copyright_text: UNKNOWN.to_owned(),
        ..Entry::default()
    }
}

fn image(contents: &Contents<'_>) -> Entry {
    Entry {
        id: IMAGE.to_owned(),
        name: contents.name.to_owned(),
        version_info: contents.os.map(OsRelease::name),
        ..blank()
    }
}

fn file(number: usize, name: &str, sha256: &str) -> Entry {
    Entry {
        id: format!("SPDXRef-File-{number}"),
        name: name.to_owned(),
        package_file_name: Some(name.to_owned()),
        checksums: vec![Checksum {
            algorithm: String::from("SHA256"),
            checksum_value: sha256.to_owned(),
        }],
        primary_package_purpose: Some(String::from("FILE")),
        ..blank()
    }
}

fn installed(number: usize, package: &Package, os: Option<&OsRelease>) -> Entry {
    let mut entry = Entry {
        id: format!("SPDXRef-Package-{number}"),
        name: package.name.clone(),
        version_info: Some(match &package.epoch {
            Some(epoch) => format!("{epoch}:{}", package.version),
            None => package.version.clone(),
        }),
        ..blank()
    };
    entry.external_refs = purl(package, os)
        .map(|locator| ExternalRef {
            reference_category: String::from("PACKAGE-MANAGER"),
            reference_type: String::from("purl"),
            reference_locator: locator,
        })
        .into_iter()
        .collect();
    if let Some(licence) = &package.licence {
        // Packagers also write what is no expression of SPDX.
        match spdx::Expression::parse(licence) {
            Ok(_) => entry.license_declared.clone_from(licence),
            Err(_) => entry.license_comments = Some(format!("the package says: {licence}")),
        }
    }
    entry
}

fn relationship(from: &str, kind: &str, to: &str) -> Relationship {
    Relationship {
        spdx_element_id: from.to_owned(),
        relationship_type: kind.to_owned(),
        related_spdx_element: to.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages;

    fn contents<'a>(files: &'a [(String, String)], packages: &'a [Package]) -> Contents<'a> {
        Contents {
            name: "mini ö",
            created: "2026-11-30T10:00:00Z",
            tool: "boxbuild-0.1.0",
            files,
            packages,
            os: None,
        }
    }

    #[test]
    fn only_expressions_of_spdx_are_declared() {
        let list = "a|None|1|1|x|None|GPL-2.0-or-later\nb|None|1|1|x|None|Freely (see LICENSE)\n";
        let (list, _) = packages::read(list);
        let document = Document::new(contents(&[], &list));
        let [_, a, b] = &document.packages[..] else {
            panic!("{document:?}");
        };
        assert_eq!(a.license_declared, "GPL-2.0-or-later");
        assert_eq!(b.license_declared, UNKNOWN);
        assert!(b.license_comments.as_ref().unwrap().contains("Freely"));
    }

    #[test]
    fn the_same_contents_have_the_same_document() {
        let files = [(String::from("a"), "0".repeat(64))];
        let text = |files| serde_json::to_string(&Document::new(contents(files, &[]))).unwrap();
        assert_eq!(text(&files), text(&files));
        let others = [(String::from("a"), "1".repeat(64))];
        let namespace = |files| Document::new(contents(files, &[])).document_namespace;
        assert_ne!(namespace(&files), namespace(&others));
        assert!(namespace(&files).is_ascii());
    }
}
