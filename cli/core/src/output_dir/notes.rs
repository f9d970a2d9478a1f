//! What the user is told about results.

use std::ffi::OsStr;

use boxbuild_host::text::shown;
use boxbuild_host::units::size;

/// What was left out is named that often.
const MOST_NOTES: usize = 10;

/// Notes about results.
#[derive(Debug, Default)]
pub(super) struct Notes {
    lines: Vec<String>,
    more: usize,
}

impl Notes {
    pub(super) fn add(&mut self, line: String) {
        if self.lines.len() < MOST_NOTES {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn left_out(&mut self, name: &OsStr, why: &str) {
        let name = name.to_string_lossy();
        self.add(format!("'{}' is not a result: {why}", shown(&name)));
    }

    pub(super) fn left_out_inside(
        &mut self,
        folder: &OsStr,
        inside: &OsStr,
        why: &str,
        count: usize,
    ) {
        let (folder, inside) = (folder.to_string_lossy(), inside.to_string_lossy());
        self.add(format!(
            "left out of the results in '{}': '{}' ({why}){}",
            shown(&folder),
            shown(&inside),
            if count > 1 {
                format!(" and {} more", count - 1)
            } else {
                String::new()
            }
        ));
    }

    pub(super) fn no_checksum(&mut self, name: &str, bytes: u64) {
        self.add(format!(
            "'{}' gets no checksum: {} is too large to be read again",
            shown(name),
            size(bytes)
        ));
    }

    pub(super) fn lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines
                .push(format!("and {} more such results", self.more));
        }
        self.lines
    }
}
