//! Container images in the OCI layout (OCI image specification, image-layout.md), as a folder or
//! as an archive of one. An archive is not unpacked: its parts are read where they are.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader, Read};

use boxbuild_host::digest::sha256;
use serde::Deserialize;

use super::section::Section;
use crate::metered::Archive;

/// Nested indexes that are followed.
const DEPTH: usize = 3;
/// Largest manifest in bytes (the specification recommends to accept 4 MiB).
const LARGEST_MANIFEST: u64 = 4 << 20;
/// Most layers of an image; the kernel's overlayfs has at most 500.
const MOST_LAYERS: usize = 500;
/// Most parts of an archive.
const MOST_PARTS: usize = 10_000;
/// Longest name of a part in an archive that can be one of a layout, in bytes.
const LONGEST_NAME: usize = 128;

/// A container image cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("it is not an OCI image that can be used: {0}")]
pub(super) struct OciError(String);

/// An index, with manifests or other indexes, or a manifest, with layers.
#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
}

/// An image in the OCI layout.
pub(super) enum Layout<'a> {
    /// The parts of an archive, by their names.
    Archive(HashMap<String, Section>),
    /// A folder whose files something else opens.
    Folder(&'a dyn Fn(&str) -> io::Result<Section>),
}

impl<'a> Layout<'a> {
    /// Finds the parts in an archive. Entries that do not belong to a layout are ignored.
    pub(super) fn of_archive(file: File) -> Result<Layout<'a>, OciError> {
        let parts = parts(file)?;
        if !parts.contains_key("index.json") {
            return Err(OciError(String::from(
                "it has no index.json; save it with --format oci-archive (podman), or with skopeo \
                 copy … oci-archive:FILE",
            )));
        }
        Ok(Layout::Archive(parts))
    }

    /// The same for an archive as `docker save` writes it.
    pub(super) fn of_docker_archive(file: File) -> Result<Layout<'a>, OciError> {
        parts(file).map(Layout::Archive)
    }

    /// A folder whose files `open` opens.
    pub(super) fn of_folder(open: &'a dyn Fn(&str) -> io::Result<Section>) -> Layout<'a> {
        Layout::Folder(open)
    }

    fn open(&self, name: &str) -> Result<Section, String> {
        match self {
            Layout::Archive(parts) => parts
                .get(name)
                .cloned()
                .ok_or(io::ErrorKind::NotFound.into()),
            Layout::Folder(open) => open(name),
        }
        .map_err(|error| format!("{name}: {error}"))
    }

    /// Returns the blob with a digest, which is checked unless it is in `checked`.
    fn blob(&self, digest: &str, checked: &mut HashSet<String>) -> Result<Section, String> {
        let hash = digest
            .strip_prefix("sha256:")
            .filter(|hash| is_hash(hash))
            .ok_or_else(|| {
                let begin: String = digest.chars().take(100).collect();
                format!("'{}' is not a SHA-256 digest", begin.escape_debug())
            })?;
        let section = self.open(&format!("blobs/sha256/{hash}"))?;
        if checked.insert(hash.to_owned()) {
            let (_, found) = sha256(&mut section.clone()).map_err(|error| error.to_string())?;
            if found != hash {
                return Err(format!("its part {digest} is damaged (sha256 {found})"));
            }
        }
        Ok(section)
    }
}

/// Returns the parts of an archive, by their names.
fn parts(file: File) -> Result<HashMap<String, Section>, OciError> {
    let all = || -> io::Result<_> {
        let whole = Section::whole(file);
        let mut parts = HashMap::new();
        let buffered = BufReader::with_capacity(1 << 16, whole.clone());
        Archive::new(buffered).for_each::<io::Error>(|_, entry| {
            if !entry.header().entry_type().is_file() {
                return Ok(());
            }
            let name = entry.path_bytes();
            let name = name.strip_prefix(b"./").unwrap_or(&name);
            if name.len() <= LONGEST_NAME
                && let Ok(name) = std::str::from_utf8(name)
            {
                let section = whole.part(entry.raw_file_position(), entry.size());
                parts.insert(name.to_owned(), section);
            }
            if parts.len() > MOST_PARTS {
                return Err(io::Error::other("it has too many parts"));
            }
            Ok(())
        })?;
        Ok(parts)
    };
    all().map_err(|error| OciError(error.to_string()))
}

/// An image in the list of an archive of `docker save` (moby, image/spec/spec.md, "Combined Image JSON").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    layers: Vec<String>,
}

/// Returns the layers of the only image in an archive of `docker save`, the lowest first.
pub(super) fn docker_layers(layout: &Layout<'_>) -> Result<Vec<Section>, OciError> {
    let find = || -> Result<_, String> {
        let images: Vec<Saved> = json(layout.open("manifest.json")?)?;
        let [image] = images.as_slice() else {
            return Err(format!("it has {} images, not one", images.len()));
        };
        if image.layers.is_empty() || image.layers.len() > MOST_LAYERS {
            return Err(format!("it has {} layers", image.layers.len()));
        }
        image.layers.iter().map(|name| layout.open(name)).collect()
    };
    find().map_err(OciError)
}

/// Returns the layers of the image for `arch` (GOARCH), the lowest first. Their digests are checked.
pub(super) fn layers(layout: &Layout<'_>, arch: &str) -> Result<Vec<Section>, OciError> {
    find_layers(layout, arch).map_err(OciError)
}

fn find_layers(layout: &Layout<'_>, arch: &str) -> Result<Vec<Section>, String> {
    let mut checked = HashSet::new();
    let mut current = parse(layout.open("index.json")?)?;
    for _ in 0..DEPTH {
        if current.layers.len() > MOST_LAYERS {
            return Err(format!("it has more than {MOST_LAYERS} layers"));
        }
        if !current.layers.is_empty() {
            return current
                .layers
                .iter()
                .map(|layer| layout.blob(&layer.digest, &mut checked))
                .collect();
        }
        let chosen = choose(&current.manifests, arch)?;
        current = parse(layout.blob(&chosen.digest, &mut checked)?)?;
    }
    Err(String::from("it has no layers"))
}

/// Returns the manifest for an architecture, or the only one.
fn choose<'a>(manifests: &'a [Descriptor], arch: &str) -> Result<&'a Descriptor, String> {
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.architecture == arch)
    };
    match (manifests.iter().find(fits), manifests) {
        (Some(descriptor), _) => Ok(descriptor),
        (None, [only]) if only.platform.is_none() => Ok(only),
        (None, []) => Err(String::from("it lists no image")),
        _ => Err(format!(
            "it has no image for {arch} (--arch chooses another)"
        )),
    }
}

/// Reads an index or a manifest.
fn parse(section: Section) -> Result<Index, String> {
    json(section)
}

fn json<T: serde::de::DeserializeOwned>(section: Section) -> Result<T, String> {
    let mut text = Vec::new();
    section
        .take(LARGEST_MANIFEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST_MANIFEST {
        return Err(String::from("its manifest is too large"));
    }
    serde_json::from_slice(&text).map_err(|error| format!("its manifest: {error}"))
}

fn is_hash(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn archive_of(dir: &Path) -> File {
        let path = dir.join("archive.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        builder
            .append_path_with_name(dir.join("index.json"), "./index.json")
            .unwrap();
        for entry in fs::read_dir(dir.join("blobs/sha256")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap();
            builder.append_path_with_name(&path, name).unwrap();
        }
        builder.into_inner().unwrap();
        File::open(path).unwrap()
    }

    #[test]
    fn digests_and_architectures_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |content: &str| {
            let (_, hash) = sha256(&mut content.as_bytes()).unwrap();
            fs::write(blobs.join(&hash), content).unwrap();
            format!("sha256:{hash}")
        };
        let open = |name: &str| File::open(dir.path().join(name)).map(Section::whole);
        let layer = put("a layer");
        let manifest = put(&format!("{{\"layers\": [{{\"digest\": \"{layer}\"}}]}}"));
        let index = |digest: &str, platform: &str| {
            let text = format!("{{\"manifests\": [{{\"digest\": \"{digest}\"{platform}}}]}}");
            fs::write(dir.path().join("index.json"), text).unwrap();
            let read = |layout: &Layout<'_>| -> Result<Vec<String>, String> {
                let mut texts = Vec::new();
                for mut layer in layers(layout, "amd64").map_err(|error| error.to_string())? {
                    let mut text = String::new();
                    layer.read_to_string(&mut text).unwrap();
                    texts.push(text);
                }
                Ok(texts)
            };
            let folder = read(&Layout::of_folder(&open));
            let archive = Layout::of_archive(archive_of(dir.path())).unwrap();
            assert_eq!(folder, read(&archive));
            folder
        };
        assert_eq!(index(&manifest, "").unwrap(), ["a layer"]);
        let amd64 = ", \"platform\": {\"architecture\": \"amd64\"}";
        assert_eq!(index(&manifest, amd64).unwrap().len(), 1);
        let arm64 = ", \"platform\": {\"architecture\": \"arm64\"}";
        assert!(index(&manifest, arm64).unwrap_err().contains("amd64"));
        assert!(
            index("sha256:../../etc/passwd", "")
                .unwrap_err()
                .contains("not a SHA-256 digest")
        );
        let same = format!("{{\"digest\": \"{layer}\"}},").repeat(MOST_LAYERS + 1);
        let many = put(&format!("{{\"layers\": [{}]}}", same.trim_end_matches(',')));
        assert!(index(&many, "").unwrap_err().contains("layers"));
        fs::write(blobs.join(layer.trim_start_matches("sha256:")), "changed").unwrap();
        assert!(index(&manifest, "").unwrap_err().contains("damaged"));
    }
}
