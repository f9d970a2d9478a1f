//! Which of several values of a setting counts.

use super::given::Given;
use super::names::{Place, Setting};
use super::origin::Layer;
use super::project;

/// A setting with what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    /// What counts.
    pub(crate) given: Given,
    /// What does not: something else counts before it.
    pub(crate) shadowed: Vec<Given>,
}

/// What does not count although nothing stands before it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) given: Given,
    pub(crate) why: &'static str,
}

/// Returns what counts for the command at `place`: the environment before the project before the user,
/// and of the same, the command's own table before the options that it shares with a build.
pub(super) fn effective(
    all: &[Setting],
    given: &[Given],
    place: &Place,
) -> (Vec<Effective>, Vec<LeftOut>) {
    let (mut found, mut left_out) = (Vec::new(), Vec::new());
    for setting in all.iter().filter(|setting| setting.place == *place) {
        let mut candidates: Vec<&Given> = given
            .iter()
            .filter(|given| given.setting.name == setting.name && counts(given, place))
            .collect();
        let is_shared = |given: &Given| given.setting.place != *place;
        candidates.sort_by_key(|given| (given.origin.layer(), is_shared(given)));
        let own = |name: &str| {
            let own = |given: &&Given| {
                given.origin.layer() == Layer::User
                    && given.setting.name == name
                    && counts(given, place)
            };
            let own = given.iter().filter(own);
            own.min_by_key(|given| is_shared(given))
        };
        candidates.retain(|given| {
            let too_open = (given.origin.layer() == Layer::Project)
                .then(|| project::is_too_open(given, own))
                .flatten();
            left_out.extend(too_open.map(|why| LeftOut {
                given: (*given).clone(),
                why,
            }));
            too_open.is_none()
        });
        let mut candidates = candidates.into_iter().cloned();
        if let Some(given) = candidates.next() {
            let shadowed = candidates.collect();
            found.push(Effective { given, shadowed });
        }
    }
    (found, left_out)
}

/// Whether what is given counts for the command at `place`.
fn counts(given: &Given, place: &Place) -> bool {
    let setting = &given.setting;
    setting.place == *place || (setting.is_shared() && setting.place.is_shared_with(place))
}
