//! What programs read.

use boxbuild_tests::{ProcessOutput, Sandbox, names};
use serde_json::Value;

crate::tests! {
    Program:
        the_plan_as_json,
        events_as_json;
}

fn events(output: &ProcessOutput) -> Vec<Value> {
    output
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn the_plan_as_json() {
    let sandbox = Sandbox::new("");
    let output = sandbox.build(&["--dry-run", "--json", "--box-memory", "1"], &[]);
    output.expect(0, &[]);
    let plan: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(plan["box"]["name"], "small");
    assert_eq!(plan["box"]["files"][0]["role"], "kernel");
    assert_eq!(
        plan["box"]["files"][2]["sha256"].as_str().unwrap().len(),
        64
    );
    assert_eq!(plan["engine"]["name"], boxbuild_tests::engine());
    assert_eq!(plan["engine"]["why"], "asked for");
    assert_eq!(plan["memory_mib"], 1024);
    assert_eq!(plan["shares"][0]["tag"], "kiwidescription");
    assert_eq!(plan["shares"][0]["read_only"], true);
    assert!(plan["cmdline"].as_str().unwrap().contains("root=/dev/vda1"));
    assert!(plan["notes"][0].as_str().unwrap().contains("GiB"));
    assert_eq!(plan["target_dir"], sandbox.target().to_str().unwrap());
    assert!(!sandbox.target().exists());
    sandbox.assert_nothing_left();
}

fn events_as_json() {
    let sandbox = Sandbox::new("echo image >/result/image");
    let output = sandbox.build(&["--json"], &[]);
    output.expect(0, &[]);
    let seen = events(&output);
    let is = |event: &Value, kind: &str| event["event"] == kind;
    let phases: Vec<&str> = seen
        .iter()
        .filter(|event| is(event, "phase") && event["state"] == "done")
        .map(|event| event["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["boot", "prepare", "bundle", "power off"]);
    let result = seen.iter().find(|event| is(event, "result")).unwrap();
    assert_eq!(result["status"], "built");
    assert_eq!(result["files"][0]["bytes"], 6);
    // printf 'image\n' | sha256sum
    assert_eq!(result["files"][0]["sha256"].as_str().unwrap().len(), 64);
    let last = seen.last().unwrap();
    assert_eq!((&last["event"], &last["code"]), (&"exit".into(), &0.into()));
    let times: Vec<&str> = seen
        .iter()
        .map(|event| event["time"].as_str().unwrap())
        .collect();
    // RFC 3339 in UTC sorts by time.
    assert!(times.is_sorted(), "{times:?}");

    sandbox.script("echo '[ ERROR   ]: 00:00:00 | it went wrong' >>$log; return 7");
    let output = sandbox.build(&["--json", "--keep-failed=yes"], &[]);
    assert_eq!(output.code, 1);
    let seen = events(&output);
    let result = seen.iter().find(|event| is(event, "result")).unwrap();
    assert_eq!(result["reason"], "kiwi");
    assert_eq!(result["phase"], "prepare");
    let ended: Vec<(&str, &str)> = seen
        .iter()
        .filter(|event| is(event, "phase") && event["state"] != "started")
        .map(|event| {
            (
                event["phase"].as_str().unwrap(),
                event["state"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("boot", "done"),
        ("prepare", "failed"),
        ("power off", "done"),
    ];
    assert_eq!(ended, expected, "the phase that failed has the cross");
    assert_eq!(result["kept"]["id"], "small-1");
    assert!(
        result["last_lines"][0]
            .as_str()
            .unwrap()
            .contains("it went wrong")
    );
    assert_eq!(seen.last().unwrap()["code"], 1);
    assert_eq!(names(&sandbox.store().join(".builds")), ["small-1"]);

    // What is wrong with the options, and with the host.
    for (front, code, text) in [
        (&["--json", "--frobnicate"][..], 2, "--frobnicate"),
        (&["--json", "--disk-size", "1M"], 2, "cannot shrink"),
    ] {
        let output = sandbox.build(front, &[]);
        let seen = events(&output);
        assert!(
            seen[0]["message"].as_str().unwrap().contains(text),
            "{output:?}"
        );
        assert_eq!(seen.last().unwrap()["code"], code);
    }
}
