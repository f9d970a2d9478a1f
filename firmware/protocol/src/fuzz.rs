//! What a guest can write to the control port: the body of a fuzzer (docs/fuzzing.md), which
//! `make test` runs over its corpus.

use crate::host_message::HostMessage;
use crate::job::Job;
use crate::report::Report;

/// Reads `data` as lines of both sides, and as a job. What is understood is written and read
/// back as the same.
///
/// # Panics
/// If it is not: that is a bug.
pub fn report(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(message) = HostMessage::parse(line) {
            let written = message.to_string();
            assert_eq!(HostMessage::parse(written.as_bytes()), Some(message));
        }
        // As the host takes it: any bytes.
        if let Some(report) = Report::parse(&String::from_utf8_lossy(line)) {
            let written = report.to_string();
            assert!(!written.contains(char::is_control), "{written:?}");
            assert_eq!(Report::parse(&written), Some(report));
        }
    }
    if let Ok(job) = Job::decode(data) {
        assert_eq!(Job::decode(&job.encode()), Ok(job));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Each seed, each of its beginnings, and each with one byte changed.
    #[test]
    fn the_corpus_is_survived() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/report");
        let mut seeds = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let seed = std::fs::read(entry.unwrap().path()).unwrap();
            seeds += 1;
            super::report(&seed);
            for at in 0..seed.len() {
                super::report(&seed[..at]);
                for byte in [0, b'\n', b' ', 0x7f, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] = byte;
                    super::report(&changed);
                }
            }
        }
        assert!(seeds > 0, "no corpus in {}", corpus.display());
    }
}
