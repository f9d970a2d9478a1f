//! What a build was made of: its box, its description, kiwi, and the repositories that its packages came
//! from.

use std::collections::BTreeMap;

use boxbuild_boxes::store::{BoxFile, ContainerImage, PublishedFile};
use boxbuild_host::secret;
use boxbuild_provenance::description::Described;
use boxbuild_provenance::observed::{Index, Observed};
use boxbuild_provenance::statement::Resource;
use serde_json::{Map, Value};

use crate::boot::RunsAs;
use crate::plan::Plan;

/// All that is known.
pub(super) fn all(plan: &Plan, description: &Described, observed: &Observed) -> Vec<Resource> {
    let mut all = of_box(plan);
    all.push(of_description(description));
    all.extend(kiwi(plan));
    all.extend(repositories(&plan.repositories, &observed.indexes));
    all
}

fn of_box(plan: &Plan) -> Vec<Resource> {
    let info = &plan.installed.info;
    let name = |part: &str| format!("box/{}/{part}", info.name);
    let container = match &info.container {
        Some(ContainerImage::Archive(file)) => Some(file),
        _ => None,
    };
    let parts: Vec<(&str, &BoxFile)> = match plan.runs_as {
        RunsAs::Machine(_) => vec![
            ("kernel", &info.kernel),
            ("initrd", &info.initrd),
            ("disk", &info.disk),
        ],
        RunsAs::Container(_) => container
            .map(|file| ("container", file))
            .into_iter()
            .collect(),
    };
    let changed = plan.installed.changed.is_some();
    let mut all: Vec<Resource> = parts
        .into_iter()
        .map(|(part, file)| {
            let mut resource = Resource::file(&name(part), Some(file.size), &file.sha256);
            let mut note = |key: &str, value: Value| {
                resource.annotations.insert(key.to_owned(), value);
            };
            note("origin", secret::redact(&info.origin).into());
            if changed && part == "disk" {
                // Builds with --no-snapshot have written into it: the digest is that of what it was.
                note("changedInPlace", true.into());
            }
            resource
        })
        .collect();
    if let (Some(published), RunsAs::Machine(_)) = (&info.published, plan.runs_as) {
        let of = |part: &str, file: &PublishedFile| Resource {
            uri: secret::redact(&file.url).into_owned(),
            ..Resource::file(&name(part), Some(file.size), &file.sha256)
        };
        all.push(of("published-kernel", &published.kernel));
        all.push(of("published-disk", &published.disk));
    }
    if let (Some(ContainerImage::Registry { registry }), RunsAs::Container(_)) =
        (&info.container, plan.runs_as)
    {
        all.push(Resource {
            name: name("container"),
            uri: format!("docker://{}", secret::redact(registry)),
            ..Resource::default()
        });
    }
    all
}

/// The description, by its tree in git with SHA-256, and what git has checked out there.
fn of_description(description: &Described) -> Resource {
    let mut digest = BTreeMap::from([(String::from("gitTree"), description.tree.clone())]);
    let mut annotations = Map::new();
    if let Some(revision) = &description.revision {
        if revision.clean {
            digest.insert(String::from("gitCommit"), revision.commit.clone());
        } else {
            // What was built is not what is in the commit.
            let commit = revision.commit.clone().into();
            annotations.insert(String::from("changedSinceGitCommit"), commit);
        }
    }
    Resource {
        name: String::from("description"),
        digest,
        annotations,
        ..Resource::default()
    }
}

fn kiwi(plan: &Plan) -> Option<Resource> {
    let asked = plan.kiwi_version.as_ref();
    let version = asked.or(plan.installed.info.kiwi.as_ref())?;
    Some(Resource {
        name: String::from("kiwi"),
        uri: format!("pkg:pypi/kiwi@{version}"),
        ..Resource::default()
    })
}

/// The repositories that were asked for, and the indexes that the guest side saw, each with its address
/// where that is known.
fn repositories(asked: &[String], indexes: &[Index]) -> Vec<Resource> {
    let stem = |address: &str| {
        let address = address.split_once("://").map_or(address, |(_, rest)| rest);
        // apt's names have no user info.
        let (authority, path) = address.split_once('/').unwrap_or((address, ""));
        let host = authority.rsplit('@').next().unwrap_or(authority);
        format!("{host}/{path}").trim_end_matches('/').to_owned()
    };
    let mut all: Vec<Resource> = indexes
        .iter()
        .map(|index| {
            let address = index.address();
            let base = address.as_ref().and_then(|address| {
                asked
                    .iter()
                    .find(|asked| address.starts_with(&format!("{}/", stem(asked))))
            });
            let uri = match (&address, base) {
                (Some(address), Some(base)) => {
                    let scheme = base.split_once("://").map_or("", |(scheme, _)| scheme);
                    format!("{scheme}://{address}")
                }
                _ => String::new(),
            };
            Resource {
                uri,
                ..Resource::file(&index.file, None, &index.sha256)
            }
        })
        .collect();
    let unseen: Vec<Resource> = asked
        .iter()
        .filter(|asked| {
            let base = format!("{}/", stem(asked));
            !all.iter().any(|seen| stem(&seen.uri).starts_with(&base))
        })
        .map(|asked| Resource {
            name: String::from("repository"),
            uri: asked.clone(),
            ..Resource::default()
        })
        .collect();
    all.extend(unseen);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gets_the_address_of_its_repository() {
        let index = |file: &str| Index {
            file: format!("/lists/{file}"),
            sha256: "e".repeat(64),
        };
        let asked = [
            "https://***@deb.example.org/debian/",
            "http://other.example.org/x",
        ]
        .map(str::to_owned);
        let indexes = [
            index("deb.example.org_debian_dists_trixie_InRelease"),
            index("deb.example.org_debian-security_dists_x_InRelease"),
        ];
        let found: Vec<(String, bool)> = repositories(&asked, &indexes)
            .into_iter()
            .map(|resource| (resource.uri, resource.digest.is_empty()))
            .collect();
        let known = "https://deb.example.org/debian/dists/trixie/InRelease";
        assert_eq!(
            found,
            [
                (known.to_owned(), false),
                (String::new(), false),
                (asked[1].clone(), true),
            ]
        );
    }
}
