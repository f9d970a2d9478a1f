//! Answers that another connection fetches, of this build or of another one.

use std::thread;
use std::time::{Duration, Instant};

use super::answer;
use super::connection::Broken;
use super::conversation::Conversation;
use super::output::Output;
use super::serve::Next;
use crate::http::request::Request;
use crate::store::{Announced, Waiting};

/// How often the file is looked at.
const PAUSE: Duration = Duration::from_millis(4);
/// Without a byte for so long, the server is asked by this connection as well.
const PATIENCE: Duration = Duration::from_secs(5);

impl<'f> Conversation<'f> {
    /// Answers with what another one fetches.
    pub(super) fn follow(&mut self, waiting: &Waiting, request: Request) -> Result<Next, Broken> {
        let mut output = Output::new(&self.flow.guest);
        let Some(announced) = announced(waiting) else {
            return self.instead(waiting, request, output);
        };
        let more = if request.closes {
            vec![answer::field("Connection", &"close")]
        } else {
            Vec::new()
        };
        output.raw(&answer::head(
            "200 OK",
            &announced.fields,
            &more,
            announced.length,
        ))?;
        let had = self.tail(waiting, announced.length, &mut output)?;
        if had == announced.length {
            return Ok(if request.closes {
                Next::Ends
            } else {
                Next::GoesOn
            });
        }
        let file = waiting
            .file
            .try_clone()
            .map_err(super::connection::server)?;
        let output = Output::resume(&self.flow.guest, file, had, announced.length);
        self.instead(waiting, request, output)
    }

    /// Writes what comes into the file. Returns how many bytes came.
    fn tail(&self, waiting: &Waiting, length: u64, output: &mut Output<'f>) -> Result<u64, Broken> {
        let (mut had, mut grown) = (0, Instant::now());
        while had < length {
            // Before the file is looked at: what is there then is all.
            let over = waiting.is_over();
            let more = output.file(&waiting.file, had, length)?;
            self.flow.shared.counters.cached(more as usize);
            had += more;
            if more > 0 {
                grown = Instant::now();
            } else if over || grown.elapsed() > PATIENCE {
                break;
            } else {
                thread::sleep(PAUSE);
            }
        }
        Ok(had)
    }

    /// Answers with what is kept now, or asks the server.
    fn instead(
        &mut self,
        waiting: &Waiting,
        request: Request,
        output: Output<'f>,
    ) -> Result<Next, Broken> {
        if let Some(stored) = waiting.stored()
            && self.may_serve(&stored, &request, &output)
        {
            return self.serve(&stored, &request, output);
        }
        self.ask_after_all(request, output)
    }
}

/// Waits for the head of an answer. `None` if there will be none, or not soon.
fn announced(waiting: &Waiting) -> Option<Announced> {
    let begin = Instant::now();
    loop {
        let over = waiting.is_over();
        if let Some(announced) = waiting.announced() {
            return Some(announced);
        }
        if over || begin.elapsed() > PATIENCE {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
