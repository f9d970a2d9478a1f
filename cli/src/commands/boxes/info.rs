//! `boxbuild box info`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use boxbuild_boxes::catalog::Catalog;
use boxbuild_boxes::store::{BoxFile, InstalledBox, Inventory, Published, Store, StoreError};
use boxbuild_host::arch::Arch;
use boxbuild_host::secret;
use boxbuild_host::units::{date, size};
use serde::Serialize;
use serde_json::Value;

use super::answer::Answer;
use crate::exit_code::Result;
use crate::output::json::value;

/// A box, for programs.
#[derive(Debug, Serialize)]
struct Document {
    name: String,
    /// `installed` or `published`.
    state: &'static str,
    origin: String,
    arch: Arch,
    /// Version of KIWI in the box, if it is known.
    kiwi: Option<String>,
    cpus: u32,
    memory_mib: u64,
    /// Size of the disk as the guest sees it, in bytes.
    disk_size: Option<u64>,
    /// Folder of its files.
    folder: Option<String>,
    /// When it was installed, seconds since the epoch.
    created: Option<u64>,
    /// Since when builds have written into its disk (`--no-snapshot`), seconds since the epoch.
    changed: Option<u64>,
    files: Vec<BoxFile>,
    /// What it has of what builds may need; absent if that was not looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    inventory: Option<Inventory>,
    /// Where it was fetched from.
    published: Option<Published>,
    /// Addresses of a published box's files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    to_fetch: Vec<String>,
}

/// Returns the text on an installed box, or else on a published one.
pub(super) fn info(store: &Store, name: &str, arch: Option<Arch>) -> Result<Answer> {
    match store.get_for(name, arch) {
        Ok(installed) => Ok(Answer::new(describe(&installed), document(&installed))),
        Err(error @ StoreError::Unknown { .. }) => {
            let catalog = Catalog::of_user(None)?;
            let arch = arch.unwrap_or_else(Arch::host);
            let Some((published, variant)) = catalog.get(name, arch) else {
                return Err(error.into());
            };
            let repository = catalog.repository(variant)?;
            let mut text = format!(
                "name         {name}\nstate        published, not on this host\n\
                 origin       {}\narch         {arch}\ndefaults     {} CPUs, {} MiB memory\n\
                 cmdline      {}\nlist         {}\n",
                variant.source,
                published.cpus,
                published.memory_mib,
                variant.cmdline.join(" "),
                catalog.origin,
            );
            let mut files: Vec<String> = [&variant.kernel_file, &variant.disk_file]
                .map(|file| repository.file(file).to_string())
                .to_vec();
            if !variant.container.is_empty() {
                files.push(variant.container.clone());
            }
            for file in &files {
                text += &format!("  {file}\n");
            }
            let document = Document {
                name: name.to_owned(),
                state: "published",
                origin: secret::redact(&variant.source).into_owned(),
                arch,
                kiwi: None,
                cpus: published.cpus,
                memory_mib: published.memory_mib,
                disk_size: None,
                folder: None,
                created: None,
                changed: None,
                files: Vec::new(),
                inventory: None,
                published: None,
                to_fetch: files
                    .iter()
                    .map(|file| secret::redact(file).into_owned())
                    .collect(),
            };
            Ok(Answer::new(
                secret::redact(&text).into_owned(),
                value(&document)?,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns everything known about an installed box, for programs.
pub(super) fn document(installed: &InstalledBox) -> Value {
    let info = &installed.info;
    let seconds = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH)
            .ok()
            .map(|time| time.as_secs())
    };
    let document = Document {
        name: info.name.clone(),
        state: "installed",
        origin: secret::redact(&info.origin).into_owned(),
        arch: info.arch,
        kiwi: info.kiwi.clone(),
        cpus: info.cpus,
        memory_mib: info.memory_mib,
        disk_size: Some(info.disk_size),
        folder: Some(installed.dir.to_string_lossy().into_owned()),
        created: Some(info.created),
        changed: installed.changed.and_then(seconds),
        files: info.files().into_iter().cloned().collect(),
        inventory: info.inventory.clone(),
        published: info.published.as_ref().map(Published::redacted),
        to_fetch: Vec::new(),
    };
    // Texts and numbers only.
    value(&document).unwrap_or_default()
}

/// Returns what a box has of what builds may need, as text.
fn contents(inventory: &Inventory) -> String {
    let mut text = String::new();
    let mut line = |name: &str, words: Vec<&str>| {
        if !words.is_empty() {
            text += &format!("{name:<12} {}\n", words.join(" "));
        }
    };
    let names = |of: &BTreeMap<String, bool>, there: bool| {
        let entries = of.iter().filter(|(_, is_there)| **is_there == there);
        entries.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    for (there, programs, modules) in [
        (true, "programs", "Python"),
        (false, "no programs", "no Python"),
    ] {
        let of_programs = names(&inventory.programs, there);
        line(programs, of_programs.iter().map(String::as_str).collect());
        let of_modules = names(&inventory.modules, there);
        line(modules, of_modules.iter().map(String::as_str).collect());
    }
    line("added", inventory.with.iter().map(String::as_str).collect());
    let repository = inventory.repository.iter();
    let packages = repository.flat_map(|repository| &repository.packages);
    line("for images", packages.map(String::as_str).collect());
    text
}

/// Returns everything known about an installed box, as text.
pub(super) fn describe(installed: &InstalledBox) -> String {
    let info = &installed.info;
    let mut text = format!(
        "name         {}\norigin       {}\narch         {}\nKIWI         {}\n\
         defaults     {} CPUs, {} MiB memory\ndisk         {}\nfolder       {}\n",
        info.name,
        info.origin,
        info.arch,
        info.kiwi.as_deref().unwrap_or("unknown"),
        info.cpus,
        info.memory_mib,
        size(info.disk_size),
        installed.dir.display(),
    );
    if let Some(changed) = installed.changed {
        text += &format!(
            "changed      since {}: builds with --no-snapshot have written into its disk, which size \
             and sha256 do not hold for; 'boxbuild box reset {}' undoes that\n",
            date(changed),
            info.name
        );
    }
    if let Some(inventory) = &info.inventory {
        text += &contents(inventory);
    }
    for file in info.files() {
        text += &format!(
            "  {:<22} {:>10}  sha256 {}\n",
            file.name,
            size(file.size),
            file.sha256
        );
    }
    if let Some(published) = &info.published {
        text += "fetched from\n";
        for part in [&published.kernel, &published.disk] {
            text += &format!(
                "  {}\n  {:<22} {:>10}  sha256 {}\n",
                part.url,
                "",
                size(part.size),
                part.sha256
            );
        }
    }
    secret::redact(&text).into_owned()
}
