//! `--list-boxes`: the boxes as kiwi-ng prints its configuration, for scripts that read it (YAML, keys in
//! alphabetical order; `BoxesConfig.dump_config` of KIWI 11).

use std::fmt::Write;

use boxbuild_boxes::catalog::{Catalog, PublishedBox, Variant};
use boxbuild_boxes::store::{BoxInfo, ContainerImage, Store};
use boxbuild_host::secret;

use crate::exit_code::Result;

/// Returns the published boxes and those of `store` that are not published.
pub(super) fn list(catalog: &Catalog, store: Option<&Store>) -> Result<String> {
    let mut text = String::new();
    for published in &catalog.boxes {
        text += &entry(published);
    }
    let Some(store) = store else {
        return Ok(text);
    };
    for name in store.names()? {
        // A damaged one is reported by `box list`.
        let installed = store.get(&name).ok();
        if let Some(installed) = installed.filter(|installed| installed.info.published.is_none()) {
            text += &entry(&own(&installed.info));
        }
    }
    Ok(text)
}

/// A box of this host, as the configuration would have it.
fn own(info: &BoxInfo) -> PublishedBox {
    PublishedBox {
        name: info.name.clone(),
        memory_mib: info.memory_mib,
        cpus: info.cpus,
        console: info.console.clone(),
        variants: vec![Variant {
            arch: info.arch,
            cmdline: info.cmdline.clone(),
            source: info.origin.clone(),
            kernel_file: info.kernel.name.clone(),
            disk_file: info.disk.name.clone(),
            packages_file: String::new(),
            container: match &info.container {
                Some(ContainerImage::Registry { registry }) => registry.clone(),
                _ => String::new(),
            },
            use_initrd: true,
        }],
    }
}

fn entry(of: &PublishedBox) -> String {
    let mut text = String::from("- arch:\n");
    for variant in &of.variants {
        text += "  - boxfiles:\n";
        text += &items(&[variant.kernel_file.clone(), variant.disk_file.clone()]);
        text += "    cmdline:";
        text += if variant.cmdline.is_empty() {
            " []\n"
        } else {
            "\n"
        };
        text += &items(&variant.cmdline);
        for (key, value) in [
            ("container", scalar(&variant.container)),
            ("name", scalar(variant.arch.name())),
            ("packages_file", scalar(&variant.packages_file)),
            ("source", scalar(&secret::redact(&variant.source))),
            ("use_initrd", variant.use_initrd.to_string()),
        ] {
            // Writing to a String does not fail.
            let _ = writeln!(text, "    {key}: {value}");
        }
    }
    for (key, value) in [
        ("console", scalar(&of.console)),
        ("mem_mb", format!("{}M", of.memory_mib)),
        ("name", scalar(&of.name)),
        ("processors", of.cpus.to_string()),
    ] {
        let _ = writeln!(text, "  {key}: {value}");
    }
    text
}

fn items(values: &[String]) -> String {
    values
        .iter()
        .map(|value| format!("    - {}\n", scalar(value)))
        .collect()
}

/// A text as YAML: as it is where it is nothing else than a text, else in quotes as in JSON, which YAML
/// has, too (YAML 1.2.2, section 1.2).
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./=-@+".contains(c);
    // A colon only ends a key in front of a space.
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| is_plain(c) || c == ':')
        && !text.ends_with(':');
    let other = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if plain && !other.contains(&text.to_ascii_lowercase().as_str()) {
        text.to_owned()
    } else {
        serde_json::to_string(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_host::arch::Arch;

    use super::*;

    #[test]
    fn the_list_is_what_kiwi_ng_prints() {
        let published = PublishedBox {
            name: String::from("leap"),
            memory_mib: 8096,
            cpus: 4,
            console: String::from("hvc0"),
            variants: vec![Variant {
                arch: Arch::X86_64,
                cmdline: vec![String::from("root=/dev/vda1"), String::from("a: b")],
                source: String::from("obs://Virtualization:Appliances:SelfContained:leap/images"),
                kernel_file: String::from("Leap-Box.x86_64-Kernel.tar.xz"),
                disk_file: String::from("Leap-Box.x86_64-System.qcow2"),
                packages_file: String::from("Leap-Box.x86_64-System.json"),
                container: String::new(),
                use_initrd: true,
            }],
        };
        let expected = r#"- arch:
  - boxfiles:
    - Leap-Box.x86_64-Kernel.tar.xz
    - Leap-Box.x86_64-System.qcow2
    cmdline:
    - root=/dev/vda1
    - "a: b"
    container: ""
    name: x86_64
    packages_file: Leap-Box.x86_64-System.json
    source: obs://Virtualization:Appliances:SelfContained:leap/images
    use_initrd: true
  console: hvc0
  mem_mb: 8096M
  name: leap
  processors: 4
"#;
        assert_eq!(entry(&published), expected);
        for (text, yaml) in [("no", "\"no\""), ("8", "\"8\""), ("a\nb", "\"a\\nb\"")] {
            assert_eq!(scalar(text), yaml);
        }
    }
}
