//! The cache's process between guests and a mirror on the loopback. The tests stand for the machine's
//! network: they connect, and hand the connections over.
#![allow(
    clippy::expect_used,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

mod apt;
mod kept;
mod kills;
mod mirror;
mod network;
mod offline;
mod passed;
mod trust;

use std::process::ExitCode;

use boxbuild_jail::Program;
use boxbuild_jail::seccomp::{self, proof};
use boxbuild_package_cache::{ROLE, tables};
use libtest_mimic::{Arguments, Trial, run};

const TESTS: &[(&str, fn())] = &[
    ("each_rule_lets_through_what_it_says", rules),
    (
        "a_package_comes_from_the_cache_the_second_time",
        kept::second_time,
    ),
    ("eight_at_once_fetch_each_package_once", kept::eight_at_once),
    ("lists_are_asked_about_each_time", kept::lists),
    (
        "a_package_that_is_built_again_under_its_name_is_fetched",
        kept::built_again,
    ),
    ("parts_of_packages_come_from_the_cache", kept::parts),
    (
        "servers_of_all_kinds_are_understood",
        kept::kinds_of_servers,
    ),
    (
        "requests_in_a_row_are_answered_in_their_order",
        kept::pipeline,
    ),
    ("the_oldest_goes_when_the_cache_is_full", kept::full),
    (
        "a_guest_that_does_not_read_holds_no_other_one_up",
        kept::slow_guest,
    ),
    ("what_is_not_http_goes_through_untouched", passed::tunnel),
    ("a_request_with_a_body_goes_through", passed::post),
    (
        "a_download_that_breaks_off_is_a_reset_and_is_not_kept",
        passed::broken,
    ),
    (
        "a_half_that_is_closed_leaves_the_other_one_open",
        passed::halves,
    ),
    ("a_full_disk_breaks_no_build", passed::full_disk),
    (
        "a_server_that_closes_an_idle_connection_is_seen_to",
        passed::idle,
    ),
    (
        "a_server_under_a_false_name_poisons_nothing",
        trust::false_name,
    ),
    ("secrets_and_their_answers_are_not_kept", trust::secrets),
    (
        "fields_that_a_server_may_obey_poison_nothing",
        trust::unknown_fields,
    ),
    (
        "a_second_name_on_a_connection_ends_the_cache_for_it",
        trust::second_name,
    ),
    (
        "a_body_with_another_hash_than_its_name_is_not_kept",
        trust::wrong_hash,
    ),
    ("its_folder_is_private", trust::folder),
    (
        "offline_what_is_kept_answers_whatever_its_age",
        offline::kept,
    ),
    (
        "offline_what_is_not_kept_is_named_and_not_waited_for",
        offline::absent,
    ),
    (
        "offline_what_a_proxy_of_the_users_has_fetched_answers",
        offline::proxied,
    ),
    (
        "offline_only_names_that_are_allowed_are_answered",
        offline::names,
    ),
    ("random_kills_leave_no_wrong_byte", kills::random_kills),
];

fn main() -> ExitCode {
    if let Some(code) = boxbuild_jail::enter(&[proof::ROLE, ROLE]) {
        return code;
    }
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    });
    run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn rules() {
    if !seccomp::is_available() {
        println!("skipped: each_rule_lets_through_what_it_says: no seccomp");
        return;
    }
    let mut failed = Vec::new();
    for (table, rules) in tables() {
        for rule in rules {
            let proven = proof::prove(&Program::this(), rule);
            failed.extend(proven.err().map(|error| format!("{table}: {error}")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
