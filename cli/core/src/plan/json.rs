//! Parts of a plan as JSON. Bytes that are not UTF-8 are replaced.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use boxbuild_boxes::store::{BoxFile, InstalledBox, Published};
use boxbuild_engine::Network;
use boxbuild_engine::podman::Mode;
use boxbuild_host::secret;
use serde::{Serialize, Serializer};

use crate::boot::{Boot, RunsAs};
use crate::host_paths::HostPaths;

#[derive(Serialize)]
struct Box<'a> {
    name: &'a str,
    origin: &'a str,
    arch: &'static str,
    kiwi: Option<&'a str>,
    folder: String,
    changed_in_place: bool,
    files: [File; 3],
    published: Option<Published>,
    to_fetch: Vec<String>,
}

#[derive(Serialize)]
struct File {
    role: &'static str,
    path: String,
    bytes: Option<u64>,
    sha256: Option<String>,
}

pub(super) fn installed<S: Serializer>(value: &InstalledBox, to: S) -> Result<S::Ok, S::Error> {
    let info = &value.info;
    // Of a box that is still to be fetched, neither length nor checksum is known.
    let known = value.to_fetch.is_empty();
    let file = |role, file: &BoxFile| File {
        role,
        path: lossy(value.path(file)),
        bytes: known.then_some(file.size),
        sha256: known.then(|| file.sha256.clone()),
    };
    let shown = |text: &str| secret::redact(text).into_owned();
    Box {
        name: &info.name,
        origin: &shown(&info.origin),
        arch: info.arch.name(),
        kiwi: info.kiwi.as_deref(),
        folder: lossy(&value.dir),
        changed_in_place: value.changed.is_some(),
        files: [
            file("kernel", &info.kernel),
            file("initrd", &info.initrd),
            file("disk", &info.disk),
        ],
        published: info.published.as_ref().map(Published::redacted),
        to_fetch: value.to_fetch.iter().map(|url| shown(url)).collect(),
    }
    .serialize(to)
}

pub(super) fn text<S: Serializer>(value: &impl AsRef<OsStr>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&lossy(value))
}

pub(super) fn optional_text<S: Serializer>(
    value: &Option<impl AsRef<OsStr>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    value.as_ref().map(lossy).serialize(to)
}

/// Words of a command line.
pub(super) fn words<S: Serializer>(value: &[OsString], to: S) -> Result<S::Ok, S::Error> {
    secret::redact_words(value).serialize(to)
}

/// Whether there are any.
pub(super) fn some<T, S: Serializer>(value: &[T], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bool(!value.is_empty())
}

pub(super) fn copied_files<S: Serializer>(value: &HostPaths, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(value.files.iter().map(|file| lossy(&file.path)))
}

pub(super) fn environment<S: Serializer>(
    value: &[(String, OsString)],
    to: S,
) -> Result<S::Ok, S::Error> {
    let shown = |value: &OsString| secret::redact(&value.to_string_lossy()).into_owned();
    to.collect_map(value.iter().map(|(name, value)| (name, shown(value))))
}

pub(super) fn seconds<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    value.map(|time| time.as_secs()).serialize(to)
}

pub(super) fn network<S: Serializer>(value: &Network, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(match value {
        Network::User => "user",
        Network::Public => "public",
        Network::None => "none",
    })
}

/// `boot`, which a container has none of, and `container`, which is null for a machine.
pub(super) fn runs_as<S: Serializer>(value: &RunsAs, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Parts {
        boot: Option<Boot>,
        container: Option<&'static str>,
    }
    match value {
        RunsAs::Machine(boot) => Parts {
            boot: Some(*boot),
            container: None,
        },
        RunsAs::Container(mode) => Parts {
            boot: None,
            container: Some(match mode {
                Mode::Rootful => "rootful",
                Mode::Rootless => "rootless",
            }),
        },
    }
    .serialize(to)
}

/// Text with what is not UTF-8 replaced.
pub(super) fn lossy(text: impl AsRef<OsStr>) -> String {
    text.as_ref().to_string_lossy().into_owned()
}
