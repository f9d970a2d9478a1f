use std::time::Duration;

use log::Level;

use super::*;

/// A message of line `line` of a package of ours.
fn message(notices: &Notices, line: u32, text: &str, now: Instant) {
    notices.take(
        &Record::builder()
            .args(format_args!("{text}"))
            .level(Level::Warn)
            .target("boxbuild_vmm::virtio")
            .module_path_static(Some("boxbuild_vmm::virtio"))
            .line(Some(line))
            .build(),
        now,
    );
}

fn waiting(notices: &Notices) -> Vec<String> {
    std::mem::take(&mut notices.state().waiting)
}

#[test]
fn a_source_that_goes_on_is_heard_now_and_then_with_a_count() {
    let notices = Notices::new();
    let start = Instant::now();
    for _ in 0..1000 {
        message(&notices, 1, "bad ring", start);
    }
    assert_eq!(waiting(&notices), ["bad ring"; 3]);
    message(&notices, 1, "bad ring", start + Duration::from_secs(61));
    assert_eq!(waiting(&notices), ["bad ring (and 997 more of these)"]);
    notices.state().finish();
    assert!(waiting(&notices).is_empty());
}

#[test]
fn one_source_does_not_drown_another_and_all_have_a_limit() {
    let notices = Notices::new();
    let start = Instant::now();
    for _ in 0..100 {
        message(&notices, 1, "bad ring", start);
    }
    message(&notices, 2, "no Landlock", start);
    assert!(waiting(&notices).contains(&String::from("no Landlock")));
    for line in 3..1000 {
        message(&notices, line, "something", start);
    }
    // 3 and 1 of the 20 have been there.
    assert_eq!(waiting(&notices).len(), 16);
    notices.state().finish();
    assert_eq!(waiting(&notices), ["1078 more warnings are not shown"]);
}

#[test]
fn without_a_receiver_a_few_notices_wait_for_the_first() {
    let notices = Notices::new();
    let mut now = Instant::now();
    for line in 0..60 {
        now += Duration::from_secs(20);
        message(&notices, line, &format!("message {line}"), now);
    }
    let texts = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&texts);
    let receive = Box::new(move |text| lock(&taken).push(text));
    notices.state().subscribe(1, receive);
    assert_eq!(lock(&texts).len(), MOST_WAITING);
    assert_eq!(lock(&texts)[0], "message 0");
    now += Duration::from_secs(20);
    message(&notices, 60, "direct", now);
    notices.state().finish();
    assert_eq!(
        lock(&texts)[MOST_WAITING..],
        ["direct", "28 more warnings are not shown"]
    );
}

#[test]
fn what_a_guest_named_does_not_reach_the_terminal_as_it_is() {
    let notices = Notices::new();
    let long = "é".repeat(LONGEST);
    message(&notices, 1, "a\x1b[2Jb\nc\x07", Instant::now());
    message(&notices, 2, &long, Instant::now());
    let texts = waiting(&notices);
    assert_eq!(texts[0], "abc");
    assert!(texts[1].len() < LONGEST + 8 && texts[1].ends_with('…'));
}

#[test]
fn only_warnings_of_our_packages_are_for_users() {
    let notices = Notices::new();
    let enabled =
        |level, target| notices.enabled(&Metadata::builder().level(level).target(target).build());
    assert!(enabled(Level::Warn, "boxbuild_vmm::virtio::fs"));
    assert!(enabled(Level::Error, "boxbuild_virtiofs"));
    assert!(!enabled(Level::Info, "boxbuild_vmm"));
    assert!(!enabled(Level::Warn, "rustls"));
}

/// The whole way: what a package logs comes out where a run collects it. The only test that uses the
/// process's own log.
#[test]
fn a_warning_of_a_package_becomes_a_notice() {
    install();
    log::warn!(target: "boxbuild_virtiofs", "before there is a run");
    let collected = collect();
    log::error!(target: "boxbuild_vmm", "the network is gone");
    log::debug!(target: "boxbuild_vmm", "not for users");
    log::warn!(target: "hyper", "not ours");
    assert_eq!(
        collected.take(),
        ["before there is a run", "the network is gone"]
    );
    for _ in 0..10 {
        log::warn!(target: "boxbuild_vmm", "again");
    }
    assert_eq!(
        collected.finish(),
        ["again", "again", "again", "7 more warnings are not shown"]
    );
    // The next receiver gets what was logged between.
    log::warn!(target: "boxbuild_vmm", "between two runs");
    assert_eq!(collect().take(), ["between two runs"]);
}
