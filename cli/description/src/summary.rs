//! What is in a description, for people and programs. Secrets are not: passwords, passphrases, and
//! what addresses have of them.

use boxbuild_host::secret;
use serde::Serialize;

use crate::element::Element;
use crate::include::Included;
use crate::inspect::{Description, Format};
use crate::selection::{self, Profile, Selected, Target};

/// Attributes of a type whose value is a secret.
const SECRETS: &[&str] = &["luks"];

/// Files of a description that kiwi runs or unpacks (kiwi 11.1.6, `system/setup.py`), and the folder
/// that boxbuild copies over the box.
const PARTS: &[&str] = &[
    "root",
    "root.tar",
    "root.tar.gz",
    "root.tar.xz",
    "boxroot",
    "config.sh",
    "config-overlay.sh",
    "config-host-overlay.sh",
    "images.sh",
    "pre_disk_sync.sh",
    "disk.sh",
    "post_bootstrap.sh",
    "uninstall.sh",
];

/// What is in a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The file, as the user knows it.
    pub file: String,
    /// Its markup.
    pub format: Format,
    /// Name of the image.
    pub name: String,
    /// The name that a boot loader shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Version of kiwi's schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<String>,
    /// Who wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Where to reach them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// What the image is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub specification: Option<String>,
    /// Included files.
    pub includes: Vec<Included>,
    /// Scripts, archives and folders that kiwi takes from the description folder.
    pub parts: Vec<String>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// Preferences.
    pub preferences: Vec<Preferences>,
    /// Image types.
    pub types: Vec<Type>,
    /// Repositories, in kiwi's order.
    pub repositories: Vec<Repository>,
    /// Packages.
    pub packages: Vec<PackageGroup>,
    /// Users.
    pub users: Vec<User>,
    /// What kiwi would build with the profiles and the type that were asked for, if it would.
    pub selected: Option<Selected>,
}

/// A section of preferences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preferences {
    /// Profiles that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Architectures that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// Names and values, in the order of the file.
    pub settings: Vec<(String, String)>,
}

/// An image type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Type {
    /// The type.
    pub image: String,
    /// It is taken if none is asked for.
    pub primary: bool,
    /// Profiles that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The other attributes.
    pub attributes: Vec<(String, String)>,
    /// The line.
    pub line: u32,
}

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repository {
    /// The address, without its secrets.
    pub source: String,
    /// Its kind, e.g. apt-deb.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Its priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// Of Debian's: the distribution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// Of Debian's: the components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub components: Option<String>,
    /// Profiles that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Architectures that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// It is not used for the build.
    pub image_only: bool,
    /// The file, as the user knows it.
    pub file: String,
    /// The line.
    pub line: u32,
}

/// A section of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageGroup {
    /// What they are for: bootstrap, image, delete, uninstall or the name of an image type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Profiles that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// Architectures that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// Names of packages.
    pub packages: Vec<String>,
    /// Names of collections (patterns, groups).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<String>,
    /// Archives of the description folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The home folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// The shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Profiles that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_owned).collect()
}

fn value(element: &Element, name: &str) -> Option<String> {
    element.attribute(name).map(str::to_owned)
}

impl Description {
    /// Returns what is in it, and what `target` selects of it.
    pub fn summary(&self, target: &Target) -> Summary {
        let root = self.root();
        let about = root.all("description").next();
        let text = |name: &str| {
            about
                .and_then(|about| about.text_of(name))
                .map(str::to_owned)
        };
        let parts = PARTS
            .iter()
            .filter(|name| self.folder().join(name).exists())
            .map(|name| (*name).to_owned());
        Summary {
            file: self.file().to_owned(),
            format: self.format(),
            name: value(root, "name").unwrap_or_default(),
            display_name: value(root, "displayname"),
            schema_version: value(root, "schemaversion"),
            author: text("author"),
            contact: text("contact"),
            specification: text("specification"),
            includes: self.includes().to_vec(),
            parts: parts.collect(),
            profiles: selection::profiles(root),
            preferences: root.all("preferences").map(preferences).collect(),
            types: types(root),
            repositories: repositories(root),
            packages: root.all("packages").map(package_group).collect(),
            users: users(root),
            selected: self.select(target).ok(),
        }
    }
}

fn preferences(section: &Element) -> Preferences {
    let simple = section
        .children
        .iter()
        .filter(|child| child.name != "type" && child.children.is_empty());
    Preferences {
        profiles: owned(section.list("profiles")),
        arch: owned(section.list("arch")),
        settings: simple
            .map(|child| (child.name.clone(), child.text.clone()))
            .collect(),
    }
}

fn types(root: &Element) -> Vec<Type> {
    let sections = root.all("preferences");
    let pairs = sections.flat_map(|section| section.all("type").map(move |kind| (section, kind)));
    pairs
        .map(|(section, kind)| Type {
            image: value(kind, "image").unwrap_or_default(),
            primary: kind.is_set("primary"),
            profiles: owned(section.list("profiles")),
            attributes: kind
                .attributes
                .iter()
                .filter(|(name, _)| name != "image" && name != "primary")
                .map(|(name, value)| {
                    let is_secret = SECRETS.contains(&name.as_str());
                    let shown = if is_secret { "***" } else { value.as_str() };
                    (name.clone(), secret::redact(shown).into_owned())
                })
                .collect(),
            line: kind.place.line,
        })
        .collect()
}

fn repositories(root: &Element) -> Vec<Repository> {
    root.all("repository")
        .map(|repository| {
            let source = repository.all("source").next();
            let address = source
                .and_then(|source| source.attribute("path"))
                .unwrap_or_default();
            Repository {
                source: secret::redact(address).into_owned(),
                kind: value(repository, "type"),
                alias: value(repository, "alias"),
                priority: value(repository, "priority"),
                distribution: value(repository, "distribution"),
                components: value(repository, "components"),
                profiles: owned(repository.list("profiles")),
                arch: owned(repository.list("arch")),
                image_only: repository.is_set("imageonly"),
                file: repository.place.file.to_string(),
                line: repository.place.line,
            }
        })
        .collect()
}

fn package_group(section: &Element) -> PackageGroup {
    let names = |element: &str| {
        section
            .all(element)
            .filter_map(|one| {
                let name = one.attribute("name")?;
                Some(match one.attribute("arch") {
                    Some(arch) => format!("{name} ({arch})"),
                    None => name.to_owned(),
                })
            })
            .collect::<Vec<String>>()
    };
    PackageGroup {
        kind: value(section, "type").unwrap_or_default(),
        profiles: owned(section.list("profiles")),
        arch: owned(section.list("arch")),
        packages: names("package"),
        collections: names("namedCollection"),
        archives: names("archive"),
    }
}

fn users(root: &Element) -> Vec<User> {
    let sections = root.all("users");
    let pairs = sections.flat_map(|section| section.all("user").map(move |user| (section, user)));
    pairs
        .map(|(section, user)| User {
            name: value(user, "name").unwrap_or_default(),
            id: value(user, "id"),
            groups: owned(user.list("groups")),
            home: value(user, "home"),
            shell: value(user, "shell"),
            profiles: owned(section.list("profiles")),
        })
        .collect()
}
