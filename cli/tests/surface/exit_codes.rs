//! One table of exit codes.

use crate::user::User;

/// Case E15: 2 here, 3 there.
#[test]
fn what_was_named_and_is_missing_is_wrong_usage_everywhere() {
    let user = User::new();
    for line in [
        "--box debian -- --description none --target-dir out",
        "--box debian --locked -- --description image --target-dir out",
        "--box debian --signed-by none -- --description image --target-dir out",
        "--box none -- --description image --target-dir out",
        "box import x --disk none --kernel none",
        "box import x --rootfs none",
        "box import x --oci none",
        "box import x --rootfs image --kernel none",
        "box info none",
        "box verify none",
        "box lock none",
        "box rm none",
        "box pull none",
        "box pull leap --locked",
        "box pull leap --signed-by none",
        "batch none",
        "logs none",
        "shell none",
        "prune none",
        "bench --boot-box none",
        "help none",
    ] {
        let ended = user.run(line);
        assert_eq!(ended.code, 2, "{line}: {}", ended.stderr);
        assert!(
            ended.stderr.contains("boxbuild: "),
            "{line}: {}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("error:"), "{line}: {}", ended.stderr);
    }
}

#[test]
fn times_are_understood_or_refused_in_words() {
    let user = User::new();
    for time in ["0", "90", "90s", "5min", "1h30m", "1d", "2h 5m"] {
        for option in ["--timeout", "--timeout-idle"] {
            let rest = [
                "--box",
                "none",
                "--",
                "--description",
                "image",
                "--target-dir",
                "out",
            ];
            let words = [&[option, time], &rest[..]].concat();
            let ended = user.run_words(&words);
            assert!(
                ended.stderr.contains("no box 'none'"),
                "{time}: {}",
                ended.stderr
            );
        }
    }
    for time in [
        "soon",
        "1,5h",
        "-1",
        "18446744073709551615",
        "99999d",
        "90M",
        "",
    ] {
        let ended = user.run_words(&[&format!("--timeout={time}"), "--box", "x", "--"]);
        assert_eq!(ended.code, 2, "{time}");
        assert!(
            ended.stderr.contains("0 means no limit"),
            "{time}: {}",
            ended.stderr
        );
    }
}
