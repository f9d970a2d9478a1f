//! Answers from what is kept.

use super::answer::{self, Wanted, field};
use super::connection::{Broken, Counters};
use super::output::Output;
use crate::http::request::Request;
use crate::http::values;
use crate::store::Stored;

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    GoesOn,
    Ends,
}

/// Answers with what is kept.
pub(super) fn serve(
    stored: &Stored,
    request: &Request,
    mut output: Output<'_>,
    counters: &Counters,
) -> Result<Next, Broken> {
    let length = stored.length();
    let same = values(&request.fields, "if-range").all(|word| answer::is_same(word, stored));
    let range = request.range().filter(|_| same && !output.is_resumed());
    let mut more = vec![field("Age", &stored.age())];
    if request.closes {
        more.push(field("Connection", &"close"));
    }
    let (status, start, end) = match range.map(|range| answer::wanted(range, length)) {
        None | Some(Wanted::All) => ("200 OK", 0, length),
        Some(Wanted::Part(part)) => {
            let bytes = format!("bytes {}-{}/{length}", part.start, part.end - 1);
            more.push(field("Content-Range", &bytes));
            ("206 Partial Content", part.start, part.end)
        }
        Some(Wanted::Unsatisfiable) => {
            more.push(field("Content-Range", &format!("bytes */{length}")));
            ("416 Range Not Satisfiable", 0, 0)
        }
    };
    if !output.is_resumed() {
        output.raw(&answer::head(status, stored.fields(), &more, end - start))?;
    }
    let written = output.file(&stored.body, start, end)?;
    counters.cached(written as usize);
    if written < end - start {
        return Err(Broken::Server);
    }
    Ok(if request.closes {
        Next::Ends
    } else {
        Next::GoesOn
    })
}
