//! Which profiles and which image type a build comes to (kiwi 11.1.6, `xml_state.py`).

use std::collections::{HashMap, HashSet};

use boxbuild_host::nearest::{TYPO, nearest};
use serde::Serialize;

use crate::element::{Element, Place};
use crate::finding::Finding;

/// Longest name that is compared with others, in bytes.
const LONGEST: usize = 256;

/// Most names that one is compared with.
const MOST_COMPARED: usize = 10_000;

/// Most types that a message names, and most profiles with each.
const MOST_NAMED: usize = 50;

/// What a build is asked for.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Profiles (`--profile`).
    pub profiles: Vec<String>,
    /// The image type (`--type`).
    pub image_type: Option<String>,
    /// The architecture that is built for, if it is known.
    pub arch: Option<String>,
}

/// A profile of a description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// It is taken if none is asked for.
    pub import: bool,
    /// Architectures that it is for; none: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// Profiles that come with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

/// What kiwi would build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Selected {
    /// The profiles.
    pub profiles: Vec<String>,
    /// The image type.
    #[serde(rename = "type")]
    pub image_type: String,
}

fn profile_elements(root: &Element) -> impl Iterator<Item = &Element> {
    root.all("profiles")
        .flat_map(|section| section.all("profile"))
}

/// Returns the profiles of a description.
pub(crate) fn profiles(root: &Element) -> Vec<Profile> {
    profile_elements(root)
        .map(|profile| Profile {
            name: profile.attribute("name").unwrap_or_default().to_owned(),
            description: profile
                .attribute("description")
                .unwrap_or_default()
                .to_owned(),
            import: profile.is_set("import"),
            arch: profile
                .list("arch")
                .into_iter()
                .map(str::to_owned)
                .collect(),
            requires: profile
                .all("requires")
                .filter_map(|required| required.attribute("profile").map(str::to_owned))
                .collect(),
        })
        .collect()
}

/// Returns whether a section applies with these profiles.
pub(crate) fn applies(section: &Element, profiles: &HashSet<&str>, arch: Option<&str>) -> bool {
    let wanted = section.list("profiles");
    let by_profile = wanted.is_empty() || wanted.iter().any(|name| profiles.contains(name));
    by_profile && section.is_for(arch)
}

/// Selects what `target` asks for.
///
/// # Errors
/// Fails with what kiwi would refuse.
pub(crate) fn select(root: &Element, target: &Target) -> Result<Selected, Finding> {
    let arch = target.arch.as_deref();
    let profiles = select_profiles(root, target)?;
    let names: HashSet<&str> = profiles.iter().map(String::as_str).collect();
    let types: Vec<&Element> = root
        .all("preferences")
        .filter(|section| applies(section, &names, arch))
        .flat_map(|section| section.all("type"))
        .collect();
    let with = match profiles.as_slice() {
        [] => String::from("without a profile"),
        names => format!("with the profile {}", names.join(", ")),
    };
    let image = |element: &Element| element.attribute("image").unwrap_or_default().to_owned();
    if let Some(wanted) = &target.image_type {
        if types.iter().any(|element| image(element) == *wanted) {
            return Ok(Selected {
                profiles,
                image_type: wanted.clone(),
            });
        }
        return Err(Finding::error(
            &root.place,
            format!(
                "there is no type {wanted} {with} (--type); {}",
                known_types(root)
            ),
        ));
    }
    let primary = types.iter().find(|element| element.is_set("primary"));
    match primary.or(types.first()) {
        Some(element) => Ok(Selected {
            profiles,
            image_type: image(element),
        }),
        None => Err(Finding::error(
            &root.place,
            format!(
                "there is no type to build {with}: select a profile with --profile; {}",
                known_types(root)
            ),
        )),
    }
}

fn select_profiles(root: &Element, target: &Target) -> Result<Vec<String>, Finding> {
    let arch = target.arch.as_deref();
    let available: Vec<&Element> = profile_elements(root)
        .filter(|profile| profile.is_for(arch))
        .collect();
    let name = |element: &Element| element.attribute("name").unwrap_or_default().to_owned();
    if target.profiles.is_empty() {
        let imported = available.iter().filter(|profile| profile.is_set("import"));
        return Ok(imported.map(|profile| name(profile)).collect());
    }
    // kiwi takes the last of several with one name.
    let by_name: HashMap<&str, &Element> = available
        .iter()
        .map(|profile| (profile.attribute("name").unwrap_or_default(), *profile))
        .collect();
    let mut known = HashSet::new();
    let mut selected: Vec<String> = Vec::new();
    // Each name with where it is asked for, the next one last.
    let mut open: Vec<(String, Option<&Place>)> = target
        .profiles
        .iter()
        .rev()
        .map(|name| (name.clone(), None))
        .collect();
    while let Some((wanted, by)) = open.pop() {
        if !known.insert(wanted.clone()) {
            continue;
        }
        let Some(profile) = by_name.get(wanted.as_str()) else {
            return Err(no_profile(root, &wanted, by, arch));
        };
        selected.push(wanted);
        let required = profile
            .all("requires")
            .filter(|required| required.is_for(arch));
        let required: Vec<_> = required
            .filter_map(|required| {
                let name = required.attribute("profile")?.to_owned();
                Some((name, Some(&required.place)))
            })
            .collect();
        open.extend(required.into_iter().rev());
    }
    Ok(selected)
}

/// Says that there is no such profile.
fn no_profile(root: &Element, wanted: &str, by: Option<&Place>, arch: Option<&str>) -> Finding {
    let section = root.all("profiles").next().unwrap_or(root);
    let place = by.unwrap_or(&section.place);
    let known = profiles(root);
    if let (Some(arch), Some(profile)) = (arch, known.iter().find(|known| known.name == wanted)) {
        return Finding::error(
            place,
            format!(
                "the profile {wanted} is for {}, not for {arch}",
                profile.arch.join(", ")
            ),
        );
    }
    let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
    let option = if by.is_none() { " (--profile)" } else { "" };
    // The comparison takes the product of both lengths.
    let comparable = names.iter().copied().filter(|name| name.len() <= LONGEST);
    let near = (wanted.len() <= LONGEST && names.len() <= MOST_COMPARED)
        .then(|| nearest(wanted, comparable, TYPO))
        .flatten();
    let hint = match (near, names.as_slice()) {
        (_, []) => String::from("it has none"),
        (Some(near), _) => format!("did you mean {near}? Profiles: {}", names.join(", ")),
        (None, _) => format!("profiles: {}", names.join(", ")),
    };
    Finding::error(
        place,
        format!("there is no profile {wanted}{option}; {hint}"),
    )
}

/// Lists the types with the profiles that they need.
fn known_types(root: &Element) -> String {
    let mut known: Vec<String> = Vec::new();
    'all: for section in root.all("preferences") {
        let profiles = section.list("profiles");
        let profiles = profiles.get(..MOST_NAMED).unwrap_or(&profiles).join(", ");
        for element in section.all("type") {
            if known.len() >= MOST_NAMED {
                break 'all;
            }
            let image = element.attribute("image").unwrap_or_default();
            let text = if profiles.is_empty() {
                image.to_owned()
            } else {
                format!("{image} ({profiles})")
            };
            if !known.contains(&text) {
                known.push(text);
            }
        }
    }
    if known.is_empty() {
        String::from("the description has no type")
    } else {
        format!("types: {}", known.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml;

    const TEXT: &str = r#"<image>
<profiles>
<profile name="Live" description="l"/>
<profile name="Disk" description="d"><requires profile="Common"/></profile>
<profile name="Common" description="c"/>
<profile name="Arm" description="a" arch="aarch64"/>
<profile name="Bad" description="b"><requires profile="None"/></profile>
</profiles>
<preferences><version>1</version></preferences>
<preferences profiles="Live"><type image="iso"/></preferences>
<preferences profiles="Disk,Arm"><type image="tbz"/><type image="oem" primary="true"/></preferences>
</image>"#;

    fn selected(profiles: &[&str], image_type: Option<&str>) -> Result<(String, String), String> {
        let root = xml::parse(TEXT, &"f".into()).unwrap();
        let target = Target {
            profiles: profiles.iter().map(|name| (*name).to_owned()).collect(),
            image_type: image_type.map(str::to_owned),
            arch: Some(String::from("x86_64")),
        };
        select(&root, &target)
            .map(|selected| (selected.profiles.join(","), selected.image_type))
            .map_err(|finding| finding.to_string())
    }

    #[test]
    fn profiles_and_types_are_selected_as_kiwi_does() {
        let ok = |profiles: &str, image: &str| Ok((profiles.to_owned(), image.to_owned()));
        assert_eq!(selected(&["Live"], None), ok("Live", "iso"));
        assert_eq!(selected(&["Disk"], None), ok("Disk,Common", "oem"));
        assert_eq!(selected(&["Disk"], Some("tbz")), ok("Disk,Common", "tbz"));
        assert_eq!(
            selected(&["Disk", "Live"], None),
            ok("Disk,Common,Live", "oem")
        );
    }

    /// Profiles in a circle end, and 20,000 in a chain took 15 seconds.
    #[test]
    fn circles_and_chains_of_profiles_end_at_once() {
        let chain: String = (0..20_000)
            .map(|n| {
                format!(
                    "<profile name='P{n}'><requires profile='P{}'/></profile>",
                    (n + 1) % 20_000
                )
            })
            .collect();
        let text = format!(
            "<image><profiles>{chain}</profiles><preferences><type image='tbz'/></preferences></image>"
        );
        let root = xml::parse(&text, &"f".into()).unwrap();
        let target = Target {
            profiles: vec![String::from("P0")],
            ..Target::default()
        };
        let begun = std::time::Instant::now();
        assert_eq!(select(&root, &target).unwrap().profiles.len(), 20_000);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }

    /// Each of 40,000 profiles was compared with each of 400,000 names.
    #[test]
    fn many_and_long_names_take_no_time() {
        let begun = std::time::Instant::now();
        let profiles: String = (0..40_000)
            .map(|n| format!("<profile name='P{n}' import='true'/>"))
            .collect();
        let names = "Q,".repeat(400_000);
        let types: String = (0..40_000)
            .map(|n| format!("<type image='t{n}'/>"))
            .collect();
        let text = format!(
            "<image><profiles>{profiles}</profiles><preferences profiles='{names}'>{types}</preferences></image>"
        );
        let root = xml::parse(&text, &"f".into()).unwrap();
        let error = select(&root, &Target::default()).unwrap_err();
        assert!(error.text.len() < 10_000, "{}", error.text.len());
        let long = "x".repeat(100_000);
        let text = format!(
            "<image><profiles><profile name='{long}y'/><profile name='P'><requires profile='{long}'/>\
             </profile></profiles></image>"
        );
        let root = xml::parse(&text, &"f".into()).unwrap();
        let target = Target {
            profiles: vec![String::from("P")],
            ..Target::default()
        };
        assert!(select(&root, &target).is_err());
        assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    }

    #[test]
    fn what_is_not_there_is_named_with_its_line() {
        for (profiles, image, texts) in [
            (&["Liv"][..], None, ["f:2: ", "did you mean Live?"]),
            (&["Arm"], None, ["f:2: ", "is for aarch64, not for x86_64"]),
            (&["Bad"], None, ["f:7: ", "no profile None"]),
            (&["Live"], Some("oem"), ["f:1: ", "oem (Disk, Arm)"]),
            (&[], None, ["f:1: ", "iso (Live)"]),
        ] {
            let error = selected(profiles, image).unwrap_err();
            assert!(texts.iter().all(|text| error.contains(text)), "{error}");
        }
    }
}
