//! Messages of the DNS (RFC 1035, section 4), as far as a relay looks into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a message's header, and of a message over UDP without extensions (section 4.2.1).
const HEADER: usize = 12;
const PLAIN: usize = 512;
/// Bytes that an answer of ours has at most, whatever the asker takes: it is not cut on its way
/// (DNS flag day 2020).
const LARGEST: usize = 1232;
/// A question that is larger is not one (a name, a type, options).
const QUESTION: usize = 1232;
/// Length of a name, and of one of its labels (section 2.3.4).
const NAME: usize = 255;
const LABEL: usize = 63;
/// A pointer to the name in the question, behind the header (section 4.1.4).
const QUESTION_NAME: [u8; 2] = [0xc0, HEADER as u8];
/// The two bits that make a pointer.
const POINTER: u8 = 0xc0;
/// Flags: response; opcode; truncated, recursion desired; recursion available.
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
/// Class "Internet"; types of addresses; options (RFC 6891).
const INTERNET: u16 = 1;
const A: u16 = 1;
const AAAA: u16 = 28;
const OPT: u16 = 41;
/// Records of an answer that are looked at.
const RECORDS: u16 = 64;

/// Codes of answers.
pub(super) mod code {
    pub(in super::super) const NO_ERROR: u8 = 0;
    pub(in super::super) const FORMAT_ERROR: u8 = 1;
    pub(in super::super) const SERVER_FAILURE: u8 = 2;
    pub(in super::super) const NO_SUCH_NAME: u8 = 3;
    pub(in super::super) const NOT_IMPLEMENTED: u8 = 4;
    pub(in super::super) const REFUSED: u8 = 5;
}

/// A question of the guest's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) id: u16,
    recursion: u8,
    /// The name as it is in messages and as the guest wrote it, and type and class.
    wire: Vec<u8>,
    kind: u16,
    class: u16,
    /// The name in words and in lower case, without a dot at its end, if it has only characters of
    /// names of hosts.
    pub(super) name: Option<String>,
    /// Bytes that the asker takes if it knows of extensions.
    extended: Option<u16>,
}

/// Not a question that can be passed on: with the answer, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoQuestion(pub(super) Option<Vec<u8>>);

impl Question {
    /// Reads a message of the guest's.
    ///
    /// # Errors
    /// If it is not one question.
    pub(super) fn read(message: &[u8]) -> Result<Question, NoQuestion> {
        let Some(header) = message.first_chunk::<HEADER>() else {
            return Err(NoQuestion(None));
        };
        // Answering an answer, two servers could go on for ever.
        if header[2] & RESPONSE != 0 {
            return Err(NoQuestion(None));
        }
        let refuse = |code: u8| {
            let mut answer = header.to_vec();
            answer[2] = RESPONSE | header[2] & (OPCODE | RECURSION_DESIRED);
            answer[3] = RECURSION_AVAILABLE | code;
            answer[4..].fill(0);
            NoQuestion(Some(answer))
        };
        if header[2] & OPCODE != 0 {
            return Err(refuse(code::NOT_IMPLEMENTED));
        }
        let body = &message[HEADER..];
        let parts = || {
            let wire = body.get(..name_len(body)?)?;
            let kind = number(body, wire.len())?;
            Some((wire, kind, number(body, wire.len() + 2)?))
        };
        let Some((wire, kind, class)) =
            parts().filter(|_| header[4..6] == [0, 1] && message.len() <= QUESTION)
        else {
            return Err(refuse(code::FORMAT_ERROR));
        };
        let rest = body.get(wire.len() + 4..).unwrap_or_default();
        Ok(Question {
            id: u16::from_be_bytes([header[0], header[1]]),
            recursion: header[2] & RECURSION_DESIRED,
            wire: wire.to_vec(),
            kind,
            class,
            name: text(wire),
            // No answers and authorities before it, the root's name, the type, the size.
            extended: (header[6..10] == [0; 4]
                && rest.first() == Some(&0)
                && number(rest, 1) == Some(OPT))
            .then(|| number(rest, 3))
            .flatten(),
        })
    }

    /// Whether it asks for addresses, which hosts files and search lists are for.
    pub(super) fn is_for_addresses(&self) -> bool {
        self.class == INTERNET && matches!(self.kind, A | AAAA)
    }

    /// Whether an address is of the kind that it asks for.
    pub(super) fn is_for(&self, ip: IpAddr) -> bool {
        self.kind == if ip.is_ipv6() { AAAA } else { A }
    }

    /// The same question for another name: nothing of the guest's but its type. The id is 0.
    pub(super) fn for_name(&self, name: &str) -> Vec<u8> {
        let mut bytes = vec![0, 0, RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(wire(name));
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        bytes
    }

    /// Builds an answer for the guest, with as many of `addresses` (and seconds that they are good for)
    /// as fit.
    pub(super) fn answer(&self, code: u8, addresses: &[(IpAddr, u32)]) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend([RESPONSE | self.recursion, RECURSION_AVAILABLE | code]);
        bytes.extend([0, 1, 0, 0, 0, 0, 0, u8::from(self.extended.is_some())]);
        bytes.extend(&self.wire);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(self.class.to_be_bytes());
        // The root's name, the type, the size that is taken, no flags, no options.
        let options = [
            0,
            0,
            OPT as u8,
            (LARGEST >> 8) as u8,
            LARGEST as u8,
            0,
            0,
            0,
            0,
            0,
            0,
        ];
        let most = match self.extended {
            Some(size) => usize::from(size).clamp(PLAIN, LARGEST) - options.len(),
            None => PLAIN,
        };
        let mut count: u16 = 0;
        for (ip, seconds) in addresses.iter().filter(|(ip, _)| self.is_for(*ip)) {
            let address = match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            if bytes.len() + QUESTION_NAME.len() + 10 + address.len() > most {
                break;
            }
            bytes.extend(QUESTION_NAME);
            bytes.extend(self.kind.to_be_bytes());
            bytes.extend(INTERNET.to_be_bytes());
            bytes.extend(seconds.to_be_bytes());
            bytes.extend((address.len() as u16).to_be_bytes());
            bytes.extend(address);
            count += 1;
        }
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        if self.extended.is_some() {
            bytes.extend(options);
        }
        bytes
    }
}

/// What a name server says.
#[derive(Debug)]
pub(super) struct Response<'m> {
    message: &'m [u8],
}

impl<'m> Response<'m> {
    /// Reads a message of a name server's, if it is an answer.
    pub(super) fn read(message: &'m [u8]) -> Option<Response<'m>> {
        (message.len() >= HEADER && message[2] & RESPONSE != 0).then_some(Response { message })
    }

    pub(super) fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    pub(super) fn code(&self) -> u8 {
        self.message[3] & 0xf
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.message[2] & TRUNCATED != 0
    }

    /// Whether it answers the message `question`: the same name, type and class. A server that does not
    /// understand a question may leave it out.
    pub(super) fn is_to(&self, question: &[u8]) -> bool {
        let asked = section(question);
        let own = section(self.message);
        match (asked, own) {
            (Some(asked), Some(own)) => own.eq_ignore_ascii_case(asked),
            (Some(_), None) => self.message[4..6] == [0, 0] && self.code() != code::NO_ERROR,
            (None, _) => false,
        }
    }

    /// The answer as it came, for the guest that asked as `id`.
    pub(super) fn with_id(&self, id: u16) -> Vec<u8> {
        let mut message = self.message.to_vec();
        message[..2].copy_from_slice(&id.to_be_bytes());
        message
    }

    /// The addresses in it, and the seconds that each is good for. Aliases are passed over.
    pub(super) fn addresses(&self) -> Vec<(IpAddr, u32)> {
        let mut found = Vec::new();
        let Some(question) = section(self.message) else {
            return found;
        };
        let mut rest = self
            .message
            .get(HEADER + question.len()..)
            .unwrap_or_default();
        let count = number(self.message, 6).unwrap_or(0);
        for _ in 0..count.min(RECORDS) {
            let Some((kind, seconds, data, behind)) = record(rest) else {
                break;
            };
            rest = behind;
            let ip = match kind {
                A => <[u8; 4]>::try_from(data)
                    .ok()
                    .map(|ip| IpAddr::V4(Ipv4Addr::from(ip))),
                AAAA => <[u8; 16]>::try_from(data)
                    .ok()
                    .map(|ip| IpAddr::V6(Ipv6Addr::from(ip))),
                _ => None,
            };
            found.extend(ip.map(|ip| (ip, seconds)));
        }
        found
    }
}

/// The question of a message: name, type and class, if there is one and no more.
fn section(message: &[u8]) -> Option<&[u8]> {
    let body = message.get(HEADER..)?;
    (message[4..6] == [0, 1]).then(|| body.get(..name_len(body)? + 4))?
}

/// The first of `records`: type, seconds, data, and what follows. Of other classes, nothing.
fn record(records: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let mut at = 0;
    loop {
        let len = *records.get(at)?;
        at += 1;
        match len {
            0 => break,
            _ if len & POINTER == POINTER => {
                at += 1;
                break;
            }
            _ => at += usize::from(len),
        }
        if at > NAME {
            return None;
        }
    }
    let kind = number(records, at)?;
    let class = number(records, at + 2)?;
    let seconds = records.get(at + 4..at + 8)?.try_into().ok()?;
    let len = usize::from(number(records, at + 8)?);
    let data = records.get(at + 10..at + 10 + len)?;
    let kind = if class == INTERNET { kind } else { 0 };
    Some((
        kind,
        u32::from_be_bytes(seconds),
        data,
        &records[at + 10 + len..],
    ))
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Bytes of the name that `bytes` begin with; a question has no pointers.
fn name_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let len = usize::from(*bytes.get(at)?);
        at += 1 + len;
        if len > LABEL || at > NAME {
            return None;
        }
        if len == 0 {
            return Some(at);
        }
    }
}

/// A name in words: see [`Question::name`].
fn text(wire: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut rest = wire;
    loop {
        let (len, behind) = rest.split_first()?;
        if *len == 0 {
            return Some(name);
        }
        let (label, behind) = behind.split_at_checked(usize::from(*len))?;
        let good = |b: &u8| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_';
        if !label.iter().all(good) {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        rest = behind;
    }
}

/// A name as it is in messages.
fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// Any bytes as a message of the guest's and as one of a name server's.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(question) = Question::read(bytes) {
        let addresses = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), 1); 200];
        assert!(question.answer(0, &addresses).len() <= LARGEST);
        if let Some(name) = &question.name {
            let again = question.for_name(name);
            assert!(Question::read(&again).is_ok_and(|again| again.name == question.name));
        }
    }
    if let Some(response) = Response::read(bytes) {
        assert!(response.addresses().len() <= usize::from(RECORDS));
        let _ = (
            response.is_to(bytes),
            response.with_id(1).len() == bytes.len(),
        );
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A question as programs ask it.
    pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        bytes.extend(wire(name));
        bytes.extend(kind.to_be_bytes());
        bytes.extend(INTERNET.to_be_bytes());
        bytes
    }

    /// An answer of a name server to `query`, with an alias before the addresses.
    pub(crate) fn response(query: &[u8], addresses: &[IpAddr]) -> Vec<u8> {
        let mut bytes = query[..HEADER + section(query).unwrap().len()].to_vec();
        bytes[2..4].copy_from_slice(&[0x81, 0x80]);
        bytes[6..8].copy_from_slice(&(addresses.len() as u16 + 1).to_be_bytes());
        bytes[8..12].fill(0);
        let mut record = |kind: u16, data: &[u8]| {
            bytes.extend(QUESTION_NAME);
            bytes.extend(kind.to_be_bytes());
            bytes.extend(INTERNET.to_be_bytes());
            bytes.extend(300_u32.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        };
        record(5, &wire("cdn.example"));
        for ip in addresses {
            match ip {
                IpAddr::V4(ip) => record(1, &ip.octets()),
                IpAddr::V6(ip) => record(28, &ip.octets()),
            }
        }
        bytes
    }

    /// The name that a message asks for.
    pub(crate) fn asked(message: &[u8]) -> String {
        Question::read(message).unwrap().name.unwrap()
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let mut message = query(7, "Mirror.Example", 28);
        let question = Question::read(&message).unwrap();
        assert_eq!(question.name.as_deref(), Some("mirror.example"));
        assert!(question.is_for_addresses());
        let ips: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let answer = question.answer(code::NO_ERROR, &[(ips[0], 5), (ips[1], 5)]);
        let read = Response::read(&answer).unwrap();
        assert!(read.is_to(&message) && !read.is_truncated());
        assert_eq!(
            (read.id(), read.code(), read.addresses()),
            (7, 0, vec![(ips[0], 5)])
        );
        // As the guest wrote it: programs that guard against forgery compare case as well.
        assert_eq!(answer[12..28], *b"\x06Mirror\x07Example\0");
        let many = vec![(ips[0], 5); 100];
        assert!(question.answer(0, &many).len() <= PLAIN);
        // An asker with extensions.
        message[11] = 1;
        message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        let question = Question::read(&message).unwrap();
        let answer = question.answer(0, &many);
        assert!(answer.len() > PLAIN && answer.len() <= LARGEST);
        assert_eq!(
            (answer[11], &answer[answer.len() - 11..][..3]),
            (1, &[0, 0, 41][..])
        );
    }

    #[test]
    fn what_is_no_question_has_an_answer_all_the_same() {
        let refused = |message: &[u8]| Question::read(message).unwrap_err().0;
        assert_eq!(refused(b"short"), None);
        let mut response = query(7, "a", 1);
        response[2] |= RESPONSE;
        assert_eq!(refused(&response), None);
        let mut update = query(7, "a", 1);
        update[2] |= 5 << 3;
        assert_eq!(refused(&update).unwrap()[..4], [0, 7, 0xa9, 0x84]);
        let mut none = query(7, "a", 1);
        none[5] = 0;
        assert_eq!(refused(&none).unwrap()[..4], [0, 7, 0x81, 0x81]);
        // A pointer to itself, a name without an end.
        for name in [&[0xc0, 12][..], &[63; 200]] {
            let mut message = query(7, "", 1)[..HEADER].to_vec();
            message.extend(name);
            assert!(refused(&message).is_some());
        }
        // Not the name of a host, and passed on as it is.
        let odd = Question::read(&query(7, "a b", 16)).unwrap();
        assert_eq!((odd.name.clone(), odd.is_for_addresses()), (None, false));
    }

    #[test]
    fn records_that_lie_are_passed_over() {
        let ip = IpAddr::from([198, 51, 100, 7]);
        let good = response(&query(1, "a.example", 1), &[ip]);
        assert_eq!(Response::read(&good).unwrap().addresses(), [(ip, 300)]);
        for cut in HEADER..good.len() {
            let cut = Response::read(&good[..cut]).map(|cut| cut.addresses());
            assert!(cut.is_some_and(|found| found.is_empty()));
        }
        let mut longer = good.clone();
        longer[6..8].fill(0xff);
        assert_eq!(Response::read(&longer).unwrap().addresses(), [(ip, 300)]);
        assert!(
            !Response::read(&good)
                .unwrap()
                .is_to(&query(1, "b.example", 1))
        );
        assert!(
            !Response::read(&good)
                .unwrap()
                .is_to(&query(1, "a.example", 28))
        );
    }

    proptest! {
        #[test]
        fn garbage(message in prop::collection::vec(any::<u8>(), 0..600), sane in any::<bool>()) {
            let mut bytes = message.clone();
            if sane {
                bytes = response(&query(1, "a.example", 1), &[]);
                bytes[6..8].fill(0xff);
                bytes.extend(&message);
            }
            fuzz(&bytes);
        }
    }
}
