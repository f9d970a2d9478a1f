//! Builds in a real guest under the real engine: what succeeds, what fails and how, and what
//! is left behind.

mod failure;
mod input;
mod interrupt;
mod success;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // Each test is a machine of its own; more at once than processors only makes all slow.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let tests = [
        success::TESTS,
        failure::TESTS,
        interrupt::TESTS,
        input::TESTS,
    ]
    .concat();
    let bed = boxbuild_tests::bed();
    if let Err(reason) = &bed {
        println!("skipped: all {} end-to-end tests: {reason}", tests.len());
    }
    let trials = tests
        .into_iter()
        .map(|(name, test): (&str, fn())| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
            .with_ignored_flag(bed.is_err())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}
