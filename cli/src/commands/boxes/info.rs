//! `boxbuild box info`.

use boxbuild_boxes::catalog::Catalog;
use boxbuild_boxes::store::{InstalledBox, Store, StoreError};
use boxbuild_host::arch::Arch;
use boxbuild_host::secret;
use boxbuild_host::units::{date, size};

use crate::exit_code::Result;

/// Returns the text on an installed box, or else on a published one.
pub(super) fn info(store: &Store, name: &str, arch: Option<Arch>) -> Result<String> {
    match store.get_for(name, arch) {
        Ok(installed) => Ok(describe(&installed)),
        Err(error @ StoreError::Unknown { .. }) => {
            let catalog = Catalog::of_user()?;
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
            for file in [&variant.kernel_file, &variant.disk_file] {
                text += &format!("  {}\n", repository.file(file));
            }
            if !variant.container.is_empty() {
                text += &format!("  {}\n", variant.container);
            }
            Ok(secret::redact(&text).into_owned())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns everything known about an installed box, as text.
pub(super) fn describe(installed: &InstalledBox) -> String {
    let info = &installed.info;
    let mut text = format!(
        "name         {}\norigin       {}\narch         {}\nKIWI         {}\n\
         defaults     {} CPUs, {} MiB memory\ndisk         {} GiB\nfolder       {}\n",
        info.name,
        info.origin,
        info.arch,
        info.kiwi.as_deref().unwrap_or("unknown"),
        info.cpus,
        info.memory_mib,
        info.disk_size >> 30,
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
