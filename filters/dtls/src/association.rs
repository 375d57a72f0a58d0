//! One association with a client, from its second ClientHello on: dimpl, and what has to be known
//! besides.

use std::time::Duration;

use bridge::Bytes;
use codec_capsule::{Datagram, UDP_PAYLOAD};
use dimpl::{CertificateError, Dtls, Error, Output, SecurityError};

use crate::Shared;
use crate::cookie;
use crate::hello::{self, Choice, ClientHello, Cookie};
use crate::identity::{CertificateIdentity, Refusal};
use crate::provider::expect_cookie;
use crate::psk::Asked;
use crate::record::{self, HANDSHAKE};

/// The longest plaintext of a record (RFC 5246 §6.2.1).
const MAX_PLAINTEXT: usize = 1 << 14;
/// dimpl has no way to say that it waits for nothing: it names a time that never comes.
const NEVER: Duration = Duration::from_secs(7 * 24 * 3600);
/// The alert's description (RFC 5246 §7.2).
const HANDSHAKE_FAILURE: u8 = 40;
const DECRYPT_ERROR: u8 = 51;

pub(crate) struct Association {
    dtls: Dtls,
    pub(crate) choice: Choice,
    /// The cookie of the ClientHello that began it.
    pub(crate) cookie: Cookie,
    /// What is added to the sequence numbers of epoch 0, so that the first one is that of the client's
    /// ClientHello (RFC 6347 §4.2.1).
    offset: u64,
    /// The next sequence number of epoch 0.
    next_plain: u64,
    pub(crate) suite: u16,
    /// When time has to be told.
    pub(crate) wake: Option<Duration>,
    asked: Option<Asked>,
    pub(crate) certificate: Option<Box<CertificateIdentity>>,
}

/// What came of giving something to an association.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Datagrams for the client, in capsules.
    pub(crate) datagrams: Vec<u8>,
    /// Plaintext from the client, in capsules.
    pub(crate) plaintext: Vec<u8>,
    pub(crate) connected: bool,
    /// The client sent close_notify.
    pub(crate) closed: bool,
}

impl Outcome {
    pub(crate) fn is_nothing(&self) -> bool {
        self.datagrams.is_empty() && self.plaintext.is_empty() && !self.connected && !self.closed
    }
}

/// Why an association ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Certificate(Refusal),
    NoCertificate,
    /// The client does not have the key of its identity.
    BadPsk,
    UnknownPsk,
    Timeout,
    /// The client sent a fatal alert.
    Alert,
    /// Anything else that a client does wrong.
    Protocol,
}

impl Failure {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Certificate(refusal) => refusal.label(),
            Self::NoCertificate => "no_client_certificate",
            Self::BadPsk => "bad_psk",
            Self::UnknownPsk => "unknown_psk_identity",
            Self::Timeout => "timeout",
            Self::Alert => "alert",
            Self::Protocol => "protocol_error",
        }
    }

    /// The description of the alert that the client is told, if any. It does not learn whether its
    /// identity is known (RFC 4279 §2).
    fn alert(self) -> Option<u8> {
        match self {
            Self::Certificate(refusal) => Some(refusal.alert()),
            Self::BadPsk | Self::UnknownPsk => Some(DECRYPT_ERROR),
            Self::NoCertificate | Self::Protocol => Some(HANDSHAKE_FAILURE),
            Self::Timeout | Self::Alert => None,
        }
    }
}

impl Association {
    /// Begins with a ClientHello whose cookie is valid. `None` if dimpl does not accept it.
    pub(crate) fn start(
        shared: &Shared,
        now: Duration,
        (hello, choice, cookie): (&ClientHello<'_>, Choice, &Cookie),
        datagram: &[u8],
        outcome: &mut Outcome,
    ) -> Option<Result<Self, Failure>> {
        let config = shared.settings.dimpl.clone();
        let instant = shared.instant(now);
        let certificate = shared.settings.certificate.clone();
        let dtls = match choice {
            Choice::Psk12 => Dtls::new_12_psk(config, instant),
            Choice::Certificate12 => Dtls::new_12(config, certificate?, instant),
            Choice::Certificate13(_) => Dtls::new_13(config, certificate?, instant),
        };
        let seq = u64::from(hello.message_seq);
        let mut association = Self {
            dtls,
            choice,
            cookie: *cookie,
            offset: hello.record_sequence.saturating_sub(seq),
            next_plain: hello.record_sequence,
            suite: 0,
            wake: None,
            asked: None,
            certificate: None,
        };
        let begun = association.begin(shared, now, hello, datagram);
        let result = begun.map_err(|error| association.failure(&error));
        Some(result.and_then(|()| association.poll(shared, now, outcome)).map(|()| association))
    }

    fn begin(
        &mut self,
        shared: &Shared,
        now: Duration,
        hello: &ClientHello<'_>,
        datagram: &[u8],
    ) -> Result<(), Error> {
        self.dtls.handle_timeout(shared.instant(now))?;
        let padding = cookie::padding(&self.cookie).unwrap_or_default();
        let before = hello.before(self.choice, padding);
        for message_seq in 0..hello.message_seq {
            let before = hello::client_hello(message_seq, &before);
            expect_cookie(&self.cookie, || self.dtls.handle_packet(&before))?;
            let mut scratch = shared.scratch.borrow_mut();
            // What asks for the cookie: the client has had it.
            while !matches!(self.dtls.poll_output(&mut scratch), Output::Timeout(_)) {}
        }
        expect_cookie(&self.cookie, || self.dtls.handle_packet(datagram))
    }

    /// A datagram came from the client.
    pub(crate) fn receive(
        &mut self,
        shared: &Shared,
        now: Duration,
        datagram: &[u8],
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let received = self.dtls.handle_timeout(shared.instant(now));
        let received = received.and_then(|()| self.dtls.handle_packet(datagram));
        if let Some(asked) = shared.settings.psks.take_asked() {
            self.asked = Some(asked);
        }
        received.map_err(|error| self.failure(&error))?;
        self.poll(shared, now, outcome)
    }

    /// Time passed.
    pub(crate) fn handle_timeout(
        &mut self,
        shared: &Shared,
        now: Duration,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        self.wake = None;
        let result = self.dtls.handle_timeout(shared.instant(now));
        result.map_err(|error| self.failure(&error))?;
        self.poll(shared, now, outcome)
    }

    /// Encrypts a datagram. `Ok(false)` if it is longer than a record can be.
    pub(crate) fn send(
        &mut self,
        shared: &Shared,
        now: Duration,
        plaintext: &[u8],
        outcome: &mut Outcome,
    ) -> Result<bool, Failure> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Ok(false);
        }
        self.dtls.send_application_data(plaintext).map_err(|error| self.failure(&error))?;
        self.poll(shared, now, outcome)?;
        Ok(true)
    }

    /// Sends close_notify.
    pub(crate) fn close(&mut self, shared: &Shared, now: Duration, outcome: &mut Outcome) {
        if self.dtls.close().is_ok() {
            // There is nothing to be done about a failure any more.
            let _ = self.poll(shared, now, outcome);
        }
    }

    /// The last words of a handshake that failed.
    pub(crate) fn give_up(mut self, shared: &Shared, failure: Failure, outcome: &mut Outcome) {
        let mut scratch = shared.scratch.borrow_mut();
        let before = outcome.datagrams.len();
        // A certificate that was refused may have been followed by the rest of the handshake, and
        // nothing of ours may confirm that.
        if !matches!(failure, Failure::Certificate(_)) {
            loop {
                match self.dtls.poll_output(&mut scratch) {
                    Output::Packet(datagram) => self.emit(datagram, outcome),
                    Output::Timeout(_) | Output::BufferTooSmall { .. } => break,
                    _ => {}
                }
            }
        }
        let spoke = outcome.datagrams.len() > before;
        if let (false, Some(description)) = (spoke, failure.alert()) {
            let alert = record::fatal_alert(self.next_plain, description);
            push(&mut outcome.datagrams, &alert);
        }
    }

    pub(crate) fn is_1_3(&self) -> bool {
        matches!(self.choice, Choice::Certificate13(_))
    }

    /// The identity whose key the client has, once it is connected.
    pub(crate) fn psk_identity(&self) -> Option<&str> {
        match &self.asked {
            Some(Asked::Known(identity)) => Some(identity),
            _ => None,
        }
    }

    fn poll(
        &mut self,
        shared: &Shared,
        now: Duration,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let mut scratch = shared.scratch.borrow_mut();
        loop {
            match self.dtls.poll_output(&mut scratch) {
                Output::Packet(datagram) => self.emit(datagram, outcome),
                Output::ApplicationData(plaintext) => {
                    push(&mut outcome.plaintext, plaintext);
                }
                Output::PeerCert(certificate) => {
                    if let Some(trust) = &shared.settings.trust {
                        let verified = trust.verify(certificate, (shared.unix_time)());
                        let verified = verified.map_err(Failure::Certificate)?;
                        self.certificate = Some(Box::new(verified));
                    }
                }
                Output::Connected => outcome.connected = true,
                Output::CloseNotify => outcome.closed = true,
                Output::Timeout(at) => {
                    let at = at.saturating_duration_since(shared.start);
                    self.wake = (at < now + NEVER).then_some(at);
                    return Ok(());
                }
                // The scratch buffer holds what any datagram does.
                Output::BufferTooSmall { .. } => return Err(Failure::Protocol),
                _ => {}
            }
        }
    }

    fn emit(&mut self, datagram: &[u8], outcome: &mut Outcome) {
        let at = push(&mut outcome.datagrams, datagram);
        let sent = outcome.datagrams.get_mut(at..).unwrap_or_default();
        record::for_each_plain(sent, |header| {
            header.sequence += self.offset;
            self.next_plain = header.sequence + 1;
            if header.kind == HANDSHAKE
                && let Some(suite) = hello::negotiated(header.fragment)
            {
                self.suite = suite;
            }
        });
    }

    fn failure(&self, error: &Error) -> Failure {
        log::debug!("DTLS association failed: {error}");
        match (error, &self.asked) {
            (Error::Timeout(_), _) => Failure::Timeout,
            (Error::SecurityError(SecurityError::FatalAlert { .. }), _) => Failure::Alert,
            (Error::CertificateError(CertificateError::NoClientCertificateReceived), _) => {
                Failure::NoCertificate
            }
            (_, Some(Asked::Unknown)) => Failure::UnknownPsk,
            (Error::CryptoError(_) | Error::SecurityError(_), Some(Asked::Known(_))) => {
                Failure::BadPsk
            }
            _ => Failure::Protocol,
        }
    }
}

/// Adds a datagram in its capsule, and returns where the datagram begins.
fn push(capsules: &mut Vec<u8>, payload: &[u8]) -> usize {
    let datagram = Datagram { context_id: UDP_PAYLOAD, payload };
    let start = capsules.len();
    // dimpl makes none that is longer than a UDP payload can be.
    let Ok(len) = datagram.encoded_len() else { return start };
    capsules.resize(start + len, 0);
    if datagram.encode(capsules.get_mut(start..).unwrap_or_default()).is_err() {
        capsules.truncate(start);
    }
    capsules.len().saturating_sub(payload.len())
}

/// A datagram in its capsule.
pub(crate) fn capsule(payload: &[u8]) -> Bytes {
    let mut capsules = Vec::new();
    push(&mut capsules, payload);
    Bytes::from(capsules)
}
