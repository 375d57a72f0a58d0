//! CoAP messages to make, to look at and to compare.

use std::fmt;

use coap_http::OptionSet;
use codec_capsule::{Datagram, Decoded as Capsuled, UDP_PAYLOAD};
use codec_coap::{
    Block, Code, Decoded, Message, MessageType, OptionNumber, OptionValue, Options, TcpMessage,
    decode, decode_tcp, frame_tcp,
};

/// A message of either transport.
#[derive(Clone)]
pub struct Msg {
    /// The type and the message ID, over UDP.
    pub udp: Option<(MessageType, u16)>,
    pub code: Code,
    pub token: Vec<u8>,
    pub options: OptionSet,
    pub payload: Vec<u8>,
}

impl Msg {
    pub fn new(message_type: MessageType, code: Code, id: u16) -> Self {
        let udp = Some((message_type, id));
        Self { udp, code, token: Vec::new(), options: OptionSet::new(), payload: Vec::new() }
    }

    /// An empty message.
    pub fn empty(message_type: MessageType, id: u16) -> Self {
        Self::new(message_type, Code::EMPTY, id)
    }

    pub fn tcp(code: Code) -> Self {
        Self { udp: None, ..Self::new(MessageType::Confirmable, code, 0) }
    }

    /// The same message as it is on a stream.
    pub fn on_tcp(self) -> Self {
        Self { udp: None, ..self }
    }

    pub fn non(mut self) -> Self {
        self.udp = self.udp.map(|(_, id)| (MessageType::NonConfirmable, id));
        self
    }

    pub fn with_id(mut self, id: u16) -> Self {
        self.udp = self.udp.map(|(message_type, _)| (message_type, id));
        self
    }

    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            self.options.push(OptionNumber::URI_PATH, segment);
        }
        self
    }

    pub fn opt<'a>(mut self, number: OptionNumber, value: impl Into<OptionValue<'a>>) -> Self {
        self.options.push(number, value);
        self
    }

    pub fn block1(self, num: u32, more: bool, szx: u8) -> Self {
        self.opt(OptionNumber::BLOCK1, Block { num, more, szx })
    }

    pub fn block2(self, num: u32, more: bool, szx: u8) -> Self {
        self.opt(OptionNumber::BLOCK2, Block { num, more, szx })
    }

    pub fn observe(self, value: u32) -> Self {
        self.opt(OptionNumber::OBSERVE, value)
    }

    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    pub fn id(&self) -> u16 {
        self.udp.expect("a datagram").1
    }

    pub fn message_type(&self) -> MessageType {
        self.udp.expect("a datagram").0
    }

    /// The response in the acknowledgement; to a non-confirmable request, in a message with the same ID.
    pub fn reply(&self, code: Code) -> Self {
        let udp = self.udp.map(|(message_type, id)| match message_type {
            MessageType::Confirmable => (MessageType::Acknowledgement, id),
            other => (other, id),
        });
        Self { udp, ..Self::new(MessageType::Confirmable, code, 0) }.token(&self.token)
    }

    pub fn acknowledge(&self) -> Self {
        Self::empty(MessageType::Acknowledgement, self.id())
    }

    pub fn reject(&self) -> Self {
        Self::empty(MessageType::Reset, self.id())
    }

    /// The first option with this number, as an integer.
    pub fn uint(&self, number: OptionNumber) -> Option<u32> {
        self.options.as_list().into_iter().find(|option| option.number == number).map(|option| {
            match option.value {
                OptionValue::Uint(value) => value,
                OptionValue::Empty => 0,
                other => panic!("{other:?} is no integer"),
            }
        })
    }

    pub fn opaque(&self, number: OptionNumber) -> Option<Vec<u8>> {
        self.options.as_list().into_iter().find(|option| option.number == number).map(|option| {
            match option.value {
                OptionValue::Opaque(value) => value.to_vec(),
                other => panic!("{other:?} is not opaque"),
            }
        })
    }

    pub fn block(&self, number: OptionNumber) -> Option<(u32, bool, u8)> {
        self.uint(number).map(|value| {
            let Block { num, more, szx } = Block::from_uint(value);
            (num, more, szx)
        })
    }

    /// What stands in the payload, which is text.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.payload).expect("text")
    }

    /// The message as octets: a datagram, or a frame of a stream.
    pub fn octets(&self) -> Vec<u8> {
        let list = self.options.as_list();
        let options = Options::from(&*list);
        let (code, token, payload) = (self.code, &*self.token, &*self.payload);
        match self.udp {
            Some((message_type, message_id)) => {
                let message = Message { message_type, code, message_id, token, options, payload };
                let mut octets = vec![0; message.encoded_len().expect("a valid message")];
                message.encode(&mut octets).expect("a valid message");
                octets
            }
            None => {
                let message = TcpMessage { code, token, options, payload };
                let mut octets = vec![0; message.encoded_len().expect("a valid message")];
                message.encode(&mut octets).expect("a valid message");
                octets
            }
        }
    }

    /// The message on the native connection.
    pub fn native(&self) -> Vec<u8> {
        let octets = self.octets();
        if self.udp.is_some() { capsule(&octets) } else { octets }
    }

    #[track_caller]
    pub fn decode(octets: &[u8], is_tcp: bool) -> Self {
        let (udp, code, token, options, payload) = if is_tcp {
            match decode_tcp(octets) {
                Ok(Decoded::Complete { message, consumed }) if consumed == octets.len() => {
                    (None, message.code, message.token, message.options, message.payload)
                }
                other => panic!("{octets:02x?} is no message: {other:?}"),
            }
        } else {
            match decode(octets) {
                Ok(message) => {
                    let udp = Some((message.message_type, message.message_id));
                    (udp, message.code, message.token, message.options, message.payload)
                }
                Err(error) => panic!("{octets:02x?} is no message: {error}"),
            }
        };
        let mut set = OptionSet::new();
        for option in options.iter() {
            set.push(option.number, option.value);
        }
        let (token, payload) = (token.to_vec(), payload.to_vec());
        Self { udp, code, token, options: set, payload }
    }
}

/// `ACK 2.05 #7 [61] ETag=0102 Block2=0/1/6 "text"`; without the type and the ID over TCP.
impl fmt::Display for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((message_type, id)) = self.udp {
            write!(f, "{} ", message_type.label().to_ascii_uppercase())?;
            write!(f, "{}.{:02} #{id}", self.code.class(), self.code.detail())?;
        } else {
            write!(f, "{}.{:02}", self.code.class(), self.code.detail())?;
        }
        write!(f, " [{}]", hex(&self.token))?;
        for option in self.options.as_list() {
            let number = option.number;
            let signals = self.code.is_signaling();
            write!(f, " {}", if signals { number.0.to_string() } else { number.to_string() })?;
            match option.value {
                OptionValue::Uint(value)
                    if matches!(number, OptionNumber::BLOCK1 | OptionNumber::BLOCK2)
                        && !signals =>
                {
                    let Block { num, more, szx } = Block::from_uint(value);
                    write!(f, "={num}/{}/{szx}", u8::from(more))?;
                }
                OptionValue::Empty => {}
                OptionValue::Uint(value) => write!(f, "={value}")?,
                OptionValue::String(text) => write!(f, "={}", text.as_str())?,
                OptionValue::Opaque(value) => write!(f, "={}", hex(value))?,
            }
        }
        match str::from_utf8(&self.payload) {
            Ok("") => Ok(()),
            Ok(text) if text.len() <= 100 => write!(f, " {text:?}"),
            _ => write!(f, " {} octets", self.payload.len()),
        }
    }
}

impl fmt::Debug for Msg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A confirmable request with its message ID as token.
fn request(code: Code, id: u16, path: &str) -> Msg {
    Msg::new(MessageType::Confirmable, code, id).token(&id.to_be_bytes()).path(path)
}

pub fn get(id: u16, path: &str) -> Msg {
    request(Code::GET, id, path)
}

pub fn post(id: u16, path: &str, payload: impl AsRef<[u8]>) -> Msg {
    request(Code::POST, id, path).payload(payload)
}

pub fn put(id: u16, path: &str, payload: impl AsRef<[u8]>) -> Msg {
    request(Code::PUT, id, path).payload(payload)
}

pub fn con(code: Code, id: u16) -> Msg {
    Msg::new(MessageType::Confirmable, code, id)
}

pub fn non(code: Code, id: u16) -> Msg {
    Msg::new(MessageType::NonConfirmable, code, id)
}

/// A datagram in its capsule.
pub fn capsule(payload: &[u8]) -> Vec<u8> {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload };
    let mut octets = vec![0; datagram.encoded_len().expect("a datagram")];
    datagram.encode(&mut octets).expect("a datagram");
    octets
}

/// Whole capsules' datagrams, or whole frames.
#[track_caller]
pub fn split(mut octets: &[u8], is_tcp: bool) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while !octets.is_empty() {
        let len = if is_tcp {
            let frame = frame_tcp(octets, u32::MAX).expect("a frame").complete();
            let len = frame.expect("a whole header").len();
            messages.push(octets.get(..len).expect("a whole frame").to_vec());
            len
        } else {
            let capsule = codec_capsule::decode(octets, u32::MAX).expect("a capsule");
            let Capsuled::Complete { value: capsule, consumed } = capsule else {
                panic!("a capsule is cut off: {octets:02x?}");
            };
            let datagram = Datagram::decode(capsule.value).expect("a datagram");
            assert_eq!(datagram.context_id, UDP_PAYLOAD);
            messages.push(datagram.payload.to_vec());
            consumed
        };
        octets = &octets[len..];
    }
    messages
}
