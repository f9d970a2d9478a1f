//! Container images in the OCI layout (OCI image specification, image-layout.md), as a folder or
//! as an archive of one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::digest::sha256;
use boxbuild_host::error::{ClassifiedError, Classify, ErrorClass};
use serde::Deserialize;

use crate::source::error::SourceError;

/// Nested indexes that are followed.
const DEPTH: usize = 3;
/// Largest manifest in bytes (the specification recommends to accept 4 MiB).
const LARGEST_MANIFEST: u64 = 4 << 20;

/// A container image cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} is not an OCI image that can be used: {problem}")]
pub struct OciError {
    path: PathBuf,
    problem: String,
}

impl Classify for OciError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

impl From<OciError> for SourceError {
    fn from(error: OciError) -> SourceError {
        SourceError::Other(ClassifiedError::new(error))
    }
}

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

/// Returns the paths of the layers of the image for `arch`, the lowest first. Their digests are
/// checked. An archive is unpacked to the folder `work`.
pub(super) fn layers(path: &Path, arch: Arch, work: &Path) -> Result<Vec<PathBuf>, OciError> {
    let error = |problem: String| OciError {
        path: path.to_owned(),
        problem,
    };
    let dir = if path.is_dir() {
        path.to_owned()
    } else {
        unpack(path, work).map_err(error)?;
        work.to_owned()
    };
    let layout = Layout { dir };
    let index = layout.dir.join("index.json");
    let mut current: Index = parse(&index).map_err(error)?;
    for _ in 0..DEPTH {
        if !current.layers.is_empty() {
            return current
                .layers
                .iter()
                .map(|layer| layout.blob(&layer.digest).map_err(error))
                .collect();
        }
        let chosen = choose(&current.manifests, arch).map_err(error)?;
        current = parse(&layout.blob(&chosen.digest).map_err(error)?).map_err(error)?;
    }
    Err(error(String::from("it has no layers")))
}

/// Returns the manifest for an architecture, or the only one.
fn choose(manifests: &[Descriptor], arch: Arch) -> Result<&Descriptor, String> {
    // GOARCH: Debian's names, but for one.
    let name = match arch {
        Arch::Ppc64le => "ppc64le",
        other => other.debian_name(),
    };
    let fits = |descriptor: &&Descriptor| {
        descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.architecture == name)
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
fn parse(path: &Path) -> Result<Index, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = fs::metadata(path).map_err(|error| problem(&error))?.len();
    if size > LARGEST_MANIFEST {
        return Err(problem(&"too large"));
    }
    let text = fs::read(path).map_err(|error| problem(&error))?;
    serde_json::from_slice(&text).map_err(|error| problem(&error))
}

/// An image in the OCI layout.
struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Returns the path of the blob with a digest, which is checked.
    fn blob(&self, digest: &str) -> Result<PathBuf, String> {
        let hash = digest
            .strip_prefix("sha256:")
            .filter(|hash| is_hash(hash))
            .ok_or_else(|| format!("'{}' is not a SHA-256 digest", digest.escape_debug()))?;
        let path = self.dir.join("blobs/sha256").join(hash);
        let (_, found) = File::open(&path)
            .and_then(|mut file| sha256(&mut file))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if found != hash {
            return Err(format!("its part {digest} is damaged (sha256 {found})"));
        }
        Ok(path)
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Unpacks an archive of a layout. Entries that do not belong to a layout are ignored.
fn unpack(archive: &Path, to: &Path) -> Result<(), String> {
    let all = || -> io::Result<()> {
        fs::create_dir_all(to.join("blobs/sha256"))?;
        let mut archive = tar::Archive::new(File::open(archive)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = name.trim_start_matches("./");
            let known =
                name == "index.json" || name.strip_prefix("blobs/sha256/").is_some_and(is_hash);
            if known {
                io::copy(&mut entry, &mut File::create(to.join(name))?)?;
            }
        }
        Ok(())
    };
    all().map_err(|error| error.to_string())?;
    if !to.join("index.json").is_file() {
        return Err(String::from(
            "it has no index.json; save it with --format oci-archive (podman), or with skopeo copy \
             … oci-archive:FILE",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let layer = put("a layer");
        let manifest = put(&format!("{{\"layers\": [{{\"digest\": \"{layer}\"}}]}}"));
        let index = |digest: &str, platform: &str| {
            let text = format!("{{\"manifests\": [{{\"digest\": \"{digest}\"{platform}}}]}}");
            fs::write(dir.path().join("index.json"), text).unwrap();
            layers(dir.path(), Arch::X86_64, Path::new("/nonexistent"))
                .map_err(|error| error.to_string())
        };
        assert_eq!(index(&manifest, "").unwrap().len(), 1);
        let amd64 = ", \"platform\": {\"architecture\": \"amd64\"}";
        assert_eq!(index(&manifest, amd64).unwrap().len(), 1);
        let arm64 = ", \"platform\": {\"architecture\": \"arm64\"}";
        assert!(index(&manifest, arm64).unwrap_err().contains("x86_64"));
        assert!(
            index("sha256:../../etc/passwd", "")
                .unwrap_err()
                .contains("not a SHA-256 digest")
        );
        fs::write(blobs.join(layer.trim_start_matches("sha256:")), "changed").unwrap();
        assert!(index(&manifest, "").unwrap_err().contains("damaged"));
    }
}
