//! The plan for programs, for `--dry-run --json` (docs/json.md).

use std::ffi::OsStr;
use std::path::Path;

use boxbuild_protocol::share::{BUNDLE_TAG, DESCRIPTION_TAG};
use serde_json::{Value, json};

use super::{Boot, Plan};
use crate::container::Mode;
use crate::engine::Network;
use crate::store::BoxFile;

/// What runs the box, and why.
#[derive(Debug)]
pub struct Chosen {
    /// Name of the engine.
    pub engine: String,
    /// Why this one.
    pub why: String,
    /// What it says to the guest's kernel; a container has none.
    pub cmdline: Option<String>,
}

impl Plan {
    /// The whole plan. Bytes that are no UTF-8 are replaced.
    pub fn to_json(&self, chosen: &Chosen) -> Value {
        let info = &self.installed.info;
        let shares = self.host_paths.folders.iter().map(|share| {
            json!({"tag": share.tag, "path": path(&share.path), "read_only": share.read_only})
        });
        let own = [
            json!({"tag": DESCRIPTION_TAG, "path": path(&self.description),
                "read_only": !self.description_rw}),
            json!({"tag": BUNDLE_TAG, "path": path(&self.target_dir), "read_only": false}),
        ];
        json!({
            "box": {
                "name": info.name,
                "origin": info.origin,
                "arch": info.arch.name(),
                "kiwi": info.kiwi,
                "folder": path(&self.installed.dir),
                "changed_in_place": self.installed.changed.is_some(),
                "files": [
                    self.file("kernel", &info.kernel),
                    self.file("initrd", &info.initrd),
                    self.file("disk", &info.disk),
                ],
                "published": info.published,
                "to_fetch": self.installed.to_fetch,
            },
            "engine": {"name": chosen.engine, "why": chosen.why, "asked": self.engine},
            "container": self.container.map(|mode| match mode {
                Mode::Rootful => "rootful",
                Mode::Rootless => "rootless",
            }),
            "boot": match self.boot {
                Boot::Fast => "fast",
                Boot::Compat => "compat",
            },
            "memory_mib": self.memory_mib,
            "cpus": self.cpus,
            "disk": {
                "bytes": self.disk_size.unwrap_or(info.disk_size),
                "in_place": self.in_place,
            },
            "network": match self.network {
                Network::User => "user",
                Network::None => "none",
            },
            "ssh": self.ssh.as_ref().map(|ssh| json!({
                "port": ssh.port,
                "key": ssh.key.as_ref().map(|key| path(&key.path)),
            })),
            "console": self.console,
            "cmdline": chosen.cmdline,
            "shares": own.into_iter().chain(shares).collect::<Vec<_>>(),
            "copied_files": self.host_paths.files.iter().map(|file| path(file)).collect::<Vec<_>>(),
            "environment": self.environment.iter()
                .map(|(name, value)| (name.clone(), Value::from(text(value))))
                .collect::<serde_json::Map<_, _>>(),
            "kiwi_args": self.kiwi_args.iter().map(|word| text(word)).collect::<Vec<_>>(),
            "description": path(&self.description),
            "target_dir": path(&self.target_dir),
            "timeout_seconds": self.timeout.map(|time| time.as_secs()),
            "timeout_idle_seconds": self.timeout_idle.map(|time| time.as_secs()),
            "keep_failed": self.keep_failed,
            "notes": self.notes,
        })
    }

    fn file(&self, role: &str, file: &BoxFile) -> Value {
        // Of a box that is still to be fetched, neither is known.
        let known = self.installed.to_fetch.is_empty();
        json!({
            "role": role,
            "path": path(&self.installed.path(file)),
            "bytes": known.then_some(file.size),
            "sha256": known.then_some(&file.sha256),
        })
    }
}

fn path(path: &Path) -> String {
    text(path.as_os_str())
}

fn text(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}
