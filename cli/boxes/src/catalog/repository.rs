//! Repositories: the folders that files of published boxes are fetched from.

use std::path::PathBuf;

use boxbuild_host::error::{Classify, ErrorClass};
use reqwest::Url;

/// The address that `obs://` stands for unless kiwi's runtime configuration has another.
pub(super) const OBS_BASE: &str = "https://download.opensuse.org/repositories";

/// A folder that files of boxes are fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repository {
    /// A folder of a web server; the path ends in `/`.
    Web(Url),
    /// A folder of this host.
    Folder(PathBuf),
}

/// A file in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// On a web server.
    Web(Url),
    /// On this host.
    File(PathBuf),
}

/// Boxes cannot be fetched from an address.
#[derive(Debug, thiserror::Error)]
#[error("the source '{address}' cannot be used: {problem}")]
pub struct RepositoryError {
    address: String,
    problem: String,
}

impl Classify for RepositoryError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl Repository {
    /// Parses `obs://PROJECT/REPOSITORY`, `https://`, `http://`, `dir:` and `file:` addresses.
    pub(super) fn parse(text: &str, obs_base: &str) -> Result<Repository, RepositoryError> {
        let error = |problem: &str| RepositoryError {
            address: text.to_owned(),
            problem: problem.to_owned(),
        };
        let web = |address: &str| {
            let mut url = Url::parse(address).map_err(|problem| error(&problem.to_string()))?;
            if url.query().is_some() || url.fragment().is_some() {
                return Err(error("an address of a folder has no '?' or '#'"));
            }
            if !url.path().ends_with('/') {
                let path = format!("{}/", url.path());
                url.set_path(&path);
            }
            Ok(Repository::Web(url))
        };
        if let Some(name) = text.strip_prefix("obs://") {
            return web(&obs_address(name, obs_base)
                .ok_or_else(|| error("write it as obs://PROJECT/REPOSITORY"))?);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return web(text);
        }
        let path = ["dir:", "file:"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        // The authority of such an address is empty.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.starts_with('/') {
            return Ok(Repository::Folder(PathBuf::from(path)));
        }
        Err(error(
            "boxes are fetched from obs://, https://, http:// or dir:/ABSOLUTE/PATH",
        ))
    }

    /// Returns the location of the file `name`, which has no separators.
    pub fn file(&self, name: &str) -> Location {
        match self {
            Repository::Web(base) => {
                let mut url = base.clone();
                if let Ok(mut segments) = url.path_segments_mut() {
                    segments.pop_if_empty().push(name);
                }
                Location::Web(url)
            }
            Repository::Folder(dir) => Location::File(dir.join(name)),
        }
    }

    /// Returns a warning for the user about the repository, if there is one.
    pub fn note(&self) -> Option<String> {
        match self {
            Repository::Web(url) if url.scheme() == "http" => Some(format!(
                "{} is not authenticated (http): anyone between it and this host can change \
                 the box, and its checksums, which come the same way",
                url.host_str().unwrap_or_default()
            )),
            _ => None,
        }
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Repository::Web(url) => url.fmt(f),
            Repository::Folder(dir) => dir.display().fmt(f),
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Location::Web(url) => url.fmt(f),
            Location::File(path) => path.display().fmt(f),
        }
    }
}

/// The address of `PROJECT/REPOSITORY`: the parts of a project's name are folders, each with its
/// colon (`A:B` is at `A:/B`).
fn obs_address(name: &str, base: &str) -> Option<String> {
    let name = name.trim_matches('/').replace(":/", ":");
    let (project, repository) = name.rsplit_once('/')?;
    if project.is_empty() || repository.is_empty() {
        return None;
    }
    Some(format!(
        "{base}/{}/{repository}/",
        project.replace(':', ":/")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> String {
        Repository::parse(text, OBS_BASE)
            .unwrap()
            .file("A-Box.qcow2")
            .to_string()
    }

    #[test]
    fn the_build_service_is_asked_over_https() {
        assert_eq!(
            address("obs://Virtualization:Appliances:SelfContained:leap/images"),
            "https://download.opensuse.org/repositories/Virtualization:/Appliances:/\
             SelfContained:/leap/images/A-Box.qcow2"
        );
        assert_eq!(
            address("obs://A:/B:/C/images/"),
            "https://download.opensuse.org/repositories/A:/B:/C/images/A-Box.qcow2"
        );
        let other = Repository::parse("obs://A:B/images", "http://obs.example/r").unwrap();
        assert_eq!(other.to_string(), "http://obs.example/r/A:/B/images/");
        assert!(other.note().unwrap().contains("not authenticated"));
        let default = Repository::parse("obs://A:B/images", OBS_BASE).unwrap();
        assert_eq!(default.note(), None);
    }

    #[test]
    fn addresses_of_every_kind() {
        assert_eq!(
            address("https://b.example/x y"),
            "https://b.example/x%20y/A-Box.qcow2"
        );
        for dir in [
            "dir:///srv/boxes",
            "dir:/srv/boxes",
            "file:///srv/boxes",
            "/srv/boxes",
        ] {
            assert_eq!(address(dir), "/srv/boxes/A-Box.qcow2");
        }
        for bad in [
            "ftp://x/y",
            "obs://only",
            "dir:relative",
            "https://",
            "",
            "https://a/?x",
        ] {
            assert!(Repository::parse(bad, OBS_BASE).is_err(), "{bad}");
        }
    }
}
