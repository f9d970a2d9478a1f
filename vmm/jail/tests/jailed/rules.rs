//! For every rule: the right arguments pass, and wrong ones end the process.

use boxbuild_jail::seccomp::{COMMON, FILTER_SETUP, LANDLOCK_SETUP, Rule, SPAWN, proof};
use boxbuild_jail::{Confinement, Program, Role};

use crate::Test;

pub const ROLES: &[Role] = &[proof::ROLE];
pub const TESTS: &[Test] = crate::tests![each_rule_lets_through_what_it_says_and_no_more];

fn each_rule_lets_through_what_it_says_and_no_more() {
    if !Confinement::of_host().seccomp {
        println!("skipped: each_rule_lets_through_what_it_says_and_no_more: no seccomp");
        return;
    }
    let rules: Vec<&Rule> = [COMMON, SPAWN, FILTER_SETUP, LANDLOCK_SETUP]
        .into_iter()
        .flatten()
        .collect();
    let failed: Vec<String> = rules
        .iter()
        .filter_map(|rule| proof::prove(&Program::this(), rule).err())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    println!("{} rules", rules.len());
}
