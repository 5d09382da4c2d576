//! DNS messages (RFC 1035, EDNS of RFC 6891): from bytes to a question, from an answer to bytes. Pure.
//!
//! Called by `serve` and `forward`. Whatever the bytes are, nothing here panics, and no answer goes to
//! what is no question: two servers cannot be made to talk to each other.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, Record, RecordType},
};

/// Bytes of every message's header.
const HEADER: usize = 12;
/// Largest UDP answer to one who says nothing of its size.
const PLAIN_UDP: u16 = 512;
/// What we say we take, and the most we send by UDP whatever the asker says. Loopback would carry more,
/// but the same sizes as everywhere (DNS flag day 2020) keep forwarded answers in one packet.
const EDNS_UDP: u16 = 1232;

/// How a question came, and so how large its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What a message turned out to be.
#[derive(Debug)]
pub enum Received {
    Request(Box<Request>),
    /// A question that cannot be answered: this says so.
    Refused(Vec<u8>),
    /// No question at all.
    Nothing,
}

/// A well-formed question with its envelope.
#[derive(Debug)]
pub struct Request {
    pub question: Question,
    message: Message,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// As it was spelt: answers repeat it.
    pub name: Name,
    /// Lower case, without the final dot; None when it has bytes that no name of ours has.
    pub text: Option<String>,
    pub kind: RecordType,
}

impl Question {
    fn new(query: &Query) -> Self {
        Self { name: query.name().clone(), text: text(query.name()), kind: query.query_type() }
    }

    /// The whole address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
    pub fn reverse(&self) -> Option<IpAddr> {
        let network = self.name.parse_arpa_name().ok()?;
        (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
    }
}

/// A label with a dot or an odd byte in it could look like another name.
fn text(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        for byte in label {
            let is_plain = byte.is_ascii_graphic() && *byte != b'.';
            text.push(is_plain.then(|| char::from(byte.to_ascii_lowercase()))?);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Reads a message.
pub fn read(bytes: &[u8]) -> Received {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Received::Nothing };
    let is_answer = header[2] & 0x80 != 0;
    if is_answer {
        return Received::Nothing;
    }
    let (id, op_code) = (id_of(header), OpCode::from_u8((header[2] >> 3) & 0x0f));
    let refuse = |code| match Message::error_msg(id, op_code, code).to_vec() {
        Ok(bytes) => Received::Refused(bytes),
        Err(_) => Received::Nothing,
    };
    if op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    // Before decoding: the decoder makes room for as many questions as the header claims.
    if header[4..6] != [0, 1] {
        return refuse(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr) };
    let Some(query) = message.queries.first() else { return refuse(ResponseCode::FormErr) };
    let (question, class) = (Question::new(query), query.query_class());
    let request = Request { question, message };
    if request.message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Received::Refused(request.reply(ResponseCode::BADVERS, Transport::Udp));
    }
    if !matches!(class, DNSClass::IN | DNSClass::ANY) {
        return Received::Refused(request.reply(ResponseCode::Refused, Transport::Udp));
    }
    Received::Request(Box::new(request))
}

/// The id of a message.
pub fn id_of(header: &[u8; HEADER]) -> u16 {
    u16::from_be_bytes([header[0], header[1]])
}

/// The same message under another id; None for what is shorter than a header.
pub fn with_id(bytes: &[u8], id: u16) -> Option<Vec<u8>> {
    (bytes.len() >= HEADER).then(|| [&id.to_be_bytes(), &bytes[2..]].concat())
}

/// An answer that a nameserver gave, as far as we look into it.
#[derive(Debug, PartialEq, Eq)]
pub struct Foreign {
    pub truncated: bool,
    pub code: u8,
}

impl Request {
    /// An answer without records.
    pub fn reply(&self, code: ResponseCode, transport: Transport) -> Vec<u8> {
        self.reply_with(code, Vec::new(), Vec::new(), transport)
    }

    /// An answer with as many records as fit, marked when some had to be left out.
    pub fn reply_with(
        &self,
        code: ResponseCode,
        answers: Vec<Record>,
        additionals: Vec<Record>,
        transport: Transport,
    ) -> Vec<u8> {
        let mut reply = Message::response(self.message.metadata.id, OpCode::Query);
        reply.metadata.recursion_desired = self.message.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = code;
        reply.queries.clone_from(&self.message.queries);
        (reply.answers, reply.additionals) = (answers, additionals);
        reply.edns = self.message.edns.as_ref().map(|_| {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_UDP);
            edns
        });
        fitted(reply, self.limit(transport))
    }

    /// Only that there is more than a packet holds: who asked asks again by TCP.
    pub fn truncated(&self) -> Vec<u8> {
        let mut bytes = self.reply(ResponseCode::NoError, Transport::Udp);
        if let Some(flags) = bytes.get_mut(2) {
            *flags |= 0x02;
        }
        bytes
    }

    /// Bytes an answer may have.
    pub fn limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => {
                let asked = self.message.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
                usize::from(asked.clamp(PLAIN_UDP, EDNS_UDP))
            }
        }
    }

    /// What the bytes say in answer to this request sent under `id`; None when they are no answer to it.
    pub fn judge(&self, bytes: &[u8], id: u16) -> Option<Foreign> {
        let header = bytes.first_chunk::<HEADER>()?;
        let is_answer = header[2] & 0x80 != 0;
        if id_of(header) != id || !is_answer {
            return None;
        }
        let foreign = Foreign { truncated: header[2] & 0x02 != 0, code: header[3] & 0x0f };
        // A server may leave the question out when it could not read it.
        if header[4..6] == [0, 0] && foreign.code != 0 {
            return Some(foreign);
        }
        if header[4..6] != [0, 1] {
            return None;
        }
        let mut decoder = hickory_proto::serialize::binary::BinDecoder::new(bytes);
        let skipped = decoder.read_slice(HEADER).is_ok();
        let asked = &self.message.queries;
        let repeated = Message::read_queries(&mut decoder, 1).ok()?;
        let is_same = |a: &Query, b: &Query| a.name() == b.name() && a.query_type() == b.query_type();
        let is_ours = skipped && asked.iter().zip(&repeated).all(|(a, b)| is_same(a, b));
        is_ours.then_some(foreign)
    }
}

/// Records are dropped until the rest fits, glue first. Each round drops at least one.
fn fitted(mut message: Message, limit: usize) -> Vec<u8> {
    loop {
        let bytes = message.to_vec().unwrap_or_default();
        if !bytes.is_empty() && bytes.len() <= limit {
            return bytes;
        }
        let count = message.answers.len();
        if !message.additionals.is_empty() {
            message.additionals.clear();
        } else if count > 0 {
            message.metadata.truncation = true;
            let fits = if bytes.is_empty() { count / 2 } else { count * limit / bytes.len() };
            message.answers.truncate(fits.min(count - 1));
        } else {
            // A question alone always fits 512 bytes; what cannot be encoded is not sent.
            return bytes;
        }
    }
}
