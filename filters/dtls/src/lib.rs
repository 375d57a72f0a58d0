//! Terminates DTLS (RFC 6347, RFC 9147) in front of any protocol whose datagrams come in capsules.
//!
//! Envoy has no DTLS. It gives a filter each UDP session as a stream of DATAGRAM capsules (RFC 9297 §3.5)
//! with context ID 0 (RFC 9298 §5), and takes the same from it. [`Dtls`] goes around a [`Protocol`] that
//! speaks such capsules: those from the client have DTLS records, those for the carried protocol have
//! the plaintext of one record each, and the other way round. The carried protocol is made when the
//! handshake is complete, and learns who the client is.
//!
//! `dimpl` does the handshake and the records: DTLS 1.2 with `TLS_PSK_WITH_AES_128_CCM_8` or
//! `TLS_ECDHE_ECDSA_WITH_*`, and DTLS 1.3 with certificates. It insists on the extended master secret
//! (RFC 7627), and knows no Connection IDs (RFC 9146), no session resumption, no renegotiation and no RSA.
//! `rustls-webpki` checks clients' certificates.
//!
//! # Cookies
//!
//! A client is answered without any state until it has shown that it is where it says (RFC 6347 §4.2.1,
//! RFC 9147 §5.1). Its first ClientHello is answered with a cookie: HMAC-SHA256 over its address and
//! parameters, with a secret of the worker that changes each minute. Its second one, with that
//! cookie, begins the handshake. A ClientHello in fragments is refused, because putting it together
//! needs state.
//!
//! # A device that begins again
//!
//! A ClientHello on an established association begins another handshake beside it (RFC 6347 §4.2.8). When
//! that is complete, and the identity is the same, the new association takes the place of the old one,
//! and the carried protocol goes on: to it nothing happened. With another identity, or with none, the
//! session is closed instead, so that nothing meant for the one client reaches the other.
//!
//! # Bounds
//!
//! Of handshakes there are at most as many as configured, each with 16 datagrams of at most
//! [`MAX_HANDSHAKE_DATAGRAM`] octets. At most 65,536 octets of plaintext, and what one datagram more has,
//! are given to the carried protocol at once; whatever it cannot take while it waits for room is held,
//! and then no more is read. On an established association a record that cannot be decrypted, or came
//! before, is counted and changes nothing. A handshake in progress has no such protection: whoever sends
//! in the client's name can make it fail.

mod association;
mod config;
mod cookie;
mod hello;
mod identity;
mod provider;
mod psk;
mod record;
mod stats;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use bridge::metrics::{Metric, Registry};
use bridge::{Bytes, Captured, Ended, Input, Link, Peer, Protocol, Response, StreamId, Want};
use codec_capsule::{CapsuleType, Datagram, Decoded, MAX_UDP_PAYLOAD_LEN, UDP_PAYLOAD};

use association::{Association, Failure, Outcome};
use cookie::Secrets;
use hello::{Choice, ClientHello, Cookie, Hello};
use record::First;
use stats::{Dropped, Stats};

pub use config::{ClientCertificates, Config, PskConfig, PskList, Secret, Settings};
pub use identity::{CertificateIdentity, Identity};

/// The longest datagram that is accepted as part of a handshake, in octets. One that is longer would
/// have been fragmented on every usual path.
pub const MAX_HANDSHAKE_DATAGRAM: usize = 2048;
/// How much plaintext is given to the carried protocol at once.
const MAX_HELD: usize = 65_536;
/// The longest value of a capsule: a context ID and a UDP payload.
const MAX_CAPSULE: u32 = 8 + MAX_UDP_PAYLOAD_LEN as u32;
/// How long the carried protocol may take to close after the client's close_notify.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a client may be asked for a cookie in DTLS 1.2, and still begin a handshake.
const MAX_COOKIE_EXCHANGES: u16 = 8;

/// What all clients of one worker share.
pub struct Shared {
    settings: Settings,
    stats: Stats,
    secrets: RefCell<Secrets>,
    /// Where dimpl puts what it has to say; nothing of it is kept there.
    scratch: RefCell<Vec<u8>>,
    /// What the time 0 of [`Link::now`] is for dimpl.
    start: Instant,
    unix_time: fn() -> Duration,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Shared {
    /// Begins with no clients. The metrics are counted in `metrics`.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(settings: Settings, metrics: &Registry) -> Result<Rc<Self>, getrandom::Error> {
        Self::with_unix_time(settings, metrics, || {
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
        })
    }

    /// Like [`Shared::new`], with a clock for the validity of certificates: the time since the Unix
    /// epoch.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn with_unix_time(
        settings: Settings,
        metrics: &Registry,
        unix_time: fn() -> Duration,
    ) -> Result<Rc<Self>, getrandom::Error> {
        Ok(Rc::new(Self {
            settings,
            stats: Stats::new(metrics),
            secrets: RefCell::new(Secrets::new()?),
            scratch: RefCell::new(vec![0; 1 << 16]),
            start: Instant::now(),
            unix_time,
        }))
    }

    fn instant(&self, now: Duration) -> Instant {
        self.start.checked_add(now).unwrap_or(self.start)
    }
}

/// Counts one more for as long as it exists.
struct Counted(Metric);

impl Counted {
    fn new(metric: &Metric) -> Self {
        metric.add(1);
        Self(metric.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Makes the carried protocol.
type Start<P> = Box<dyn FnOnce(&mut Link, &Identity) -> P>;

/// A protocol that comes over DTLS.
pub struct Dtls<P> {
    shared: Rc<Shared>,
    source: Box<[u8]>,
    start: Option<Start<P>>,
    inner: Option<Box<Inner<P>>>,
    current: Option<Box<Current>>,
    pending: Option<Box<Pending>>,
    /// When there has to be an association.
    patience: Option<Duration>,
    closing: Closing,
}

/// The carried protocol.
#[derive(Debug)]
struct Inner<P> {
    protocol: P,
    /// Plaintext that it has not consumed.
    input: Input,
    want: Want,
    deadline: Option<Duration>,
}

/// The association that was established last.
struct Current {
    association: Association,
    identity: Identity,
    /// When a valid record came last.
    heard: Duration,
    _counted: Counted,
}

/// A handshake.
struct Pending {
    association: Association,
    began: Duration,
    _counted: Counted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    No,
    /// The client will send no more, and the carried protocol has until then to consume what it sent,
    /// and to say its last.
    ClientDone(Duration),
    /// The carried protocol knows.
    Told(Duration),
    /// Nothing is sent any more.
    Done,
}

impl<P: fmt::Debug> fmt::Debug for Dtls<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dtls")
            .field("inner", &self.inner)
            .field("identity", &self.current.as_ref().map(|current| &current.identity))
            .field("is_shaking_hands", &self.pending.is_some())
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

impl<P> Drop for Dtls<P> {
    fn drop(&mut self) {
        if self.pending.is_some() {
            self.shared.stats.handshake("abandoned");
        }
    }
}

impl<P: Protocol> Dtls<P> {
    /// Waits for a client. `source` is its address and port in whatever form: a cookie is good only
    /// for the same octets. `start` makes the carried protocol as soon as the client's identity is
    /// proved; before that there are no streams.
    pub fn new(
        shared: Rc<Shared>,
        source: &[u8],
        start: impl FnOnce(&mut Link, &Identity) -> P + 'static,
    ) -> Self {
        Self {
            shared,
            source: source.into(),
            start: Some(Box::new(start)),
            inner: None,
            current: None,
            pending: None,
            patience: None,
            closing: Closing::No,
        }
    }

    /// The carried protocol, to look at.
    pub fn inner(&self) -> Option<&P> {
        self.inner.as_ref().map(|inner| &inner.protocol)
    }

    /// Calls the carried protocol, and encrypts what it replies.
    fn call<T>(
        &mut self,
        link: &mut Link,
        call: impl FnOnce(&mut Inner<P>, &mut Link) -> T,
    ) -> Option<T> {
        let inner = self.inner.as_mut()?;
        link.set_deadline(inner.deadline);
        let (result, captured) = link.capture(|link| call(inner, link));
        inner.deadline = link.deadline();
        self.say(link, captured);
        Some(result)
    }

    /// Encrypts what the carried protocol replied, and closes if it did.
    fn say(&mut self, link: &mut Link, Captured { replied: (first, rest), closed, .. }: Captured) {
        if self.closing == Closing::Done {
            return;
        }
        // In two pieces so that the usual one need not be copied; where they meet is no boundary.
        let joined;
        let capsules = if rest.is_empty() {
            first.as_ref()
        } else {
            joined = [first.as_ref(), rest.as_slice()].concat();
            joined.as_slice()
        };
        if !capsules.is_empty() && !self.encrypt(link, capsules) {
            return self.end(link, "error");
        }
        if closed {
            self.close(link, "closed");
        }
    }

    /// Returns whether the association still works.
    fn encrypt(&mut self, link: &mut Link, mut capsules: &[u8]) -> bool {
        let Some(current) = &mut self.current else { return true };
        let mut outcome = Outcome::default();
        let mut works = true;
        while let Ok(Decoded::Complete { value, consumed }) =
            codec_capsule::decode(capsules, MAX_CAPSULE)
        {
            capsules = capsules.get(consumed..).unwrap_or_default();
            let Some(payload) = udp_payload(value.capsule_type, value.value) else { continue };
            let sent = current.association.send(&self.shared, link.now(), payload, &mut outcome);
            match sent {
                Ok(true) => {}
                Ok(false) => self.shared.stats.dropped(Dropped::TooLong),
                Err(_) => {
                    works = false;
                    break;
                }
            }
        }
        link.reply(Bytes::from(outcome.datagrams));
        works
    }

    /// Closes the association, and the session with it.
    fn close(&mut self, link: &mut Link, reason: &str) {
        if let Some(current) = &mut self.current {
            let mut outcome = Outcome::default();
            current.association.close(&self.shared, link.now(), &mut outcome);
            link.reply(Bytes::from(outcome.datagrams));
        }
        self.end(link, reason);
    }

    /// Closes the session, without a word to the client.
    fn end(&mut self, link: &mut Link, reason: &str) {
        if self.current.take().is_some() {
            self.shared.stats.closed(reason);
        }
        if self.pending.take().is_some() {
            self.shared.stats.handshake("abandoned");
        }
        self.closing = Closing::Done;
        link.close();
    }

    /// Takes datagrams from the client until there is enough plaintext, or no more, which it returns.
    fn read(&mut self, link: &mut Link, input: &mut Input) -> bool {
        while self.closing == Closing::No {
            let held = self.inner.as_ref().map_or(0, |inner| inner.input.len());
            if held >= MAX_HELD {
                return false;
            }
            let decoded = codec_capsule::decode(input.as_slice(), MAX_CAPSULE);
            let consumed = match decoded {
                Ok(Decoded::Complete { consumed, .. }) => consumed,
                Ok(Decoded::Incomplete { .. }) => return true,
                Err(error) => {
                    log::debug!("DTLS session ended: {error}");
                    self.close(link, "malformed_capsule");
                    return true;
                }
            };
            let capsule = input.take(consumed);
            if let Ok(Decoded::Complete { value, .. }) =
                codec_capsule::decode(&capsule, MAX_CAPSULE)
                && let Some(datagram) = udp_payload(value.capsule_type, value.value)
            {
                self.receive(link, datagram);
            }
        }
        true
    }

    fn drop_record(&self, reason: Dropped) {
        self.shared.stats.dropped(reason);
    }

    fn receive(&mut self, link: &mut Link, datagram: &[u8]) {
        match record::first(datagram) {
            First::Nothing => self.drop_record(Dropped::Malformed),
            First::Protected => self.receive_protected(link, datagram),
            _ if datagram.len() > MAX_HANDSHAKE_DATAGRAM => self.drop_record(Dropped::TooLong),
            First::Plain if self.pending.is_some() => self.receive_pending(link, datagram),
            First::Plain if self.current.is_some() => self.drop_record(Dropped::Plaintext),
            First::Plain => self.drop_record(Dropped::NoAssociation),
            First::Handshake => match hello::read(datagram) {
                Hello::Whole(hello) => self.receive_hello(link, &hello, datagram),
                Hello::Malformed => self.drop_record(Dropped::Malformed),
                Hello::Fragment => {
                    self.drop_record(Dropped::FragmentedHello);
                    self.refuse(link, "fragmented_hello", 0, 40);
                }
                Hello::None if self.pending.is_some() => self.receive_pending(link, datagram),
                // The client's last flight again: it has not had ours.
                Hello::None => match &self.current {
                    Some(current) if !current.association.is_1_3() => {
                        self.receive_current(link, datagram);
                    }
                    Some(_) => self.drop_record(Dropped::Plaintext),
                    None => self.drop_record(Dropped::NoAssociation),
                },
            },
        }
    }

    /// Says why a ClientHello leads to nothing, without any state.
    fn refuse(&mut self, link: &mut Link, reason: &str, sequence: u64, description: u8) {
        self.shared.stats.handshake(reason);
        if self.pending.is_some() {
            // Its client would believe that it is meant.
            return;
        }
        link.reply(association::capsule(&record::fatal_alert(sequence, description)));
    }

    fn receive_hello(&mut self, link: &mut Link, hello: &ClientHello<'_>, datagram: &[u8]) {
        let settings = &self.shared.settings;
        let choice = hello.choose(!settings.psks.is_empty(), settings.certificate.is_some());
        let choice = match choice {
            Ok(choice) => choice,
            Err(none) => {
                return self.refuse(link, none.label(), hello.record_sequence, none.alert());
            }
        };
        let cookie = hello.cookie(choice);
        // The same again, because our answer was lost.
        if let Some(pending) = &self.pending
            && cookie == Some(&pending.association.cookie)
        {
            return self.receive_pending(link, datagram);
        }
        if let Some(current) = &self.current
            && cookie == Some(&current.association.cookie)
        {
            return match choice {
                Choice::Certificate13(_) => self.drop_record(Dropped::Rejected),
                Choice::Psk12 | Choice::Certificate12 => self.receive_current(link, datagram),
            };
        }
        let now = link.now();
        let mut secrets = self.shared.secrets.borrow_mut();
        let valid = cookie
            .filter(|cookie| secrets.accept(now, &self.source, hello, choice, cookie))
            .filter(|_| match choice {
                Choice::Certificate13(_) => hello.message_seq == 1,
                _ => (1..=MAX_COOKIE_EXCHANGES).contains(&hello.message_seq),
            })
            .copied();
        if let Some(cookie) = valid {
            drop(secrets);
            return self.start_handshake(link, (hello, choice, &cookie), datagram);
        }
        if hello.has_cookie() {
            self.shared.stats.dropped(Dropped::Cookie);
            // A client may be asked only once (RFC 8446 §4.1.4).
            if matches!(choice, Choice::Certificate13(_)) {
                drop(secrets);
                return self.refuse(link, "bad_cookie", hello.record_sequence, 47);
            }
        }
        let cookie = secrets.make(now, &self.source, hello, choice);
        drop(secrets);
        self.shared.stats.cookies_sent.increment();
        link.reply(association::capsule(&hello::request_cookie(hello, choice, &cookie)));
    }

    fn start_handshake(
        &mut self,
        link: &mut Link,
        hello: (&ClientHello<'_>, Choice, &Cookie),
        datagram: &[u8],
    ) {
        let stats = &self.shared.stats;
        if self.pending.take().is_some() {
            stats.handshake("abandoned");
        }
        let most = i64::try_from(self.shared.settings.max_handshakes).unwrap_or(i64::MAX);
        if stats.handshakes_active.value() >= most {
            return stats.handshake("too_many");
        }
        let began = link.now();
        let counted = Counted::new(&stats.handshakes_active);
        let mut outcome = Outcome::default();
        let started = Association::start(&self.shared, began, hello, datagram, &mut outcome);
        match started {
            Some(Ok(association)) => {
                let pending = Pending { association, began, _counted: counted };
                self.pending = Some(Box::new(pending));
                link.reply(Bytes::from(outcome.datagrams));
            }
            Some(Err(failure)) => {
                let sequence = hello.0.record_sequence;
                self.refuse(link, failure.label(), sequence, 40);
            }
            None => stats.handshake("protocol_error"),
        }
    }

    fn receive_pending(&mut self, link: &mut Link, datagram: &[u8]) {
        if datagram.len() > MAX_HANDSHAKE_DATAGRAM {
            return self.drop_record(Dropped::TooLong);
        }
        let Some(pending) = &mut self.pending else { return };
        let mut outcome = Outcome::default();
        let now = link.now();
        let result = pending.association.receive(&self.shared, now, datagram, &mut outcome);
        self.advance(link, result, outcome);
    }

    /// What came of a handshake.
    fn advance(&mut self, link: &mut Link, result: Result<(), Failure>, mut outcome: Outcome) {
        if let Err(failure) = result {
            let Some(pending) = self.pending.take() else { return };
            self.shared.stats.handshake(failure.label());
            pending.association.give_up(&self.shared, failure, &mut outcome);
            link.reply(Bytes::from(outcome.datagrams));
            // An association that is there is not touched by what becomes of another.
            if self.current.is_none() {
                self.end(link, "failed");
            }
            return;
        }
        link.reply(Bytes::from(std::mem::take(&mut outcome.datagrams)));
        if outcome.connected {
            self.establish(link);
        }
        self.heard(link, outcome);
    }

    /// The handshake is complete.
    fn establish(&mut self, link: &mut Link) {
        let Some(pending) = self.pending.take() else { return };
        let Pending { association, began, _counted } = *pending;
        let Some(identity) = identity(&association, &self.shared.settings) else {
            // Unreachable unless dimpl let a client through that proved nothing.
            self.shared.stats.handshake("protocol_error");
            return self.end(link, "failed");
        };
        let now = link.now();
        let stats = &self.shared.stats;
        stats.completed(association.is_1_3(), association.suite, now.saturating_sub(began));
        let counted = Counted::new(&stats.associations_active);
        let same = self
            .current
            .as_ref()
            .is_none_or(|current| current.identity == identity && identity != Identity::Anonymous);
        if self.current.is_some() {
            stats.closed("replaced");
        }
        let start = self.start.take().map(|start| (start, identity.clone()));
        let current = Current { association, identity, heard: now, _counted: counted };
        self.current = Some(Box::new(current));
        self.patience = None;
        if !same {
            return self.close(link, "identity_changed");
        }
        if let Some((start, identity)) = start {
            link.set_deadline(None);
            let (protocol, captured) = link.capture(|link| start(link, &identity));
            let deadline = link.deadline();
            let (input, want) = (Input::default(), Want::More);
            self.inner = Some(Box::new(Inner { protocol, input, want, deadline }));
            self.say(link, captured);
        }
    }

    fn receive_protected(&mut self, link: &mut Link, datagram: &[u8]) {
        match (&self.current, &self.pending) {
            (Some(_), _) => self.receive_current(link, datagram),
            (None, Some(_)) => self.receive_pending(link, datagram),
            (None, None) => self.drop_record(Dropped::NoAssociation),
        }
    }

    fn receive_current(&mut self, link: &mut Link, datagram: &[u8]) {
        let Some(current) = &mut self.current else { return };
        let mut outcome = Outcome::default();
        let now = link.now();
        // A handshake message that is not protected would be fatal to dimpl behind a record that
        // cannot be decrypted.
        let protected = match record::first(datagram) {
            First::Protected => record::protected(datagram),
            _ => datagram,
        };
        let result = current.association.receive(&self.shared, now, protected, &mut outcome);
        match result {
            Ok(()) if outcome.is_nothing() && self.pending.is_some() => {
                self.receive_pending(link, datagram);
            }
            Ok(()) if outcome.is_nothing() => self.drop_record(Dropped::Rejected),
            Ok(()) => {
                link.reply(Bytes::from(std::mem::take(&mut outcome.datagrams)));
                self.heard(link, outcome);
            }
            Err(Failure::Alert) => self.end(link, "alert"),
            Err(_) => self.close(link, "error"),
        }
    }

    /// A valid record came.
    fn heard(&mut self, link: &mut Link, outcome: Outcome) {
        if let Some(current) = &mut self.current {
            current.heard = link.now();
        }
        if let Some(inner) = &mut self.inner {
            inner.input.push(Bytes::from(outcome.plaintext));
        }
        if outcome.closed && self.closing == Closing::No {
            self.closing = Closing::ClientDone(link.now() + CLOSE_TIMEOUT);
        }
    }

    /// Time passed for the association, or the handshake, that waits for that.
    fn tell_time(&mut self, link: &mut Link) {
        let now = link.now();
        let due = |association: &Association| association.wake.is_some_and(|wake| wake <= now);
        if let Some(pending) = self.pending.as_mut().filter(|pending| due(&pending.association)) {
            let mut outcome = Outcome::default();
            let result = pending.association.handle_timeout(&self.shared, now, &mut outcome);
            self.advance(link, result, outcome);
        }
        if let Some(current) = self.current.as_mut().filter(|current| due(&current.association)) {
            let mut outcome = Outcome::default();
            let result = current.association.handle_timeout(&self.shared, now, &mut outcome);
            link.reply(Bytes::from(outcome.datagrams));
            if result.is_err() {
                self.close(link, "error");
            }
        }
    }

    /// Sets when to be called again.
    fn set_deadline(&self, link: &mut Link) {
        let idle = self.shared.settings.idle_timeout;
        let current = self.current.as_ref();
        let times = [
            self.inner.as_ref().and_then(|inner| inner.deadline),
            self.pending.as_ref().and_then(|pending| pending.association.wake),
            current.and_then(|current| current.association.wake),
            current.map(|current| current.heard + idle),
            self.patience.filter(|_| self.closing == Closing::No),
            match self.closing {
                Closing::ClientDone(until) | Closing::Told(until) => Some(until),
                Closing::No | Closing::Done => None,
            },
        ];
        link.set_deadline(times.into_iter().flatten().min());
    }

    /// Takes what there is from the client, and gives it to the carried protocol.
    fn carry(&mut self, link: &mut Link, input: &mut Input) -> Want {
        // Once in any case: it may wait for something else than a datagram.
        let mut called = false;
        loop {
            let waits = self.inner.as_ref().is_some_and(|inner| inner.want == Want::Room);
            let all = !waits && self.read(link, input);
            let was_open = !matches!(self.closing, Closing::Done);
            if let Some(inner) = &self.inner
                && was_open
                && (!called || !inner.input.is_empty())
            {
                called = true;
                let want = self.call(link, |inner, link| {
                    inner.want = inner.protocol.handle_native(link, &mut inner.input);
                    inner.want
                });
                // What stays although it is called whole would stay for ever.
                let full = self.inner.as_ref().is_some_and(|inner| inner.input.len() >= MAX_HELD);
                if (want == Some(Want::Room) || full) && self.closing != Closing::Done {
                    return Want::Room;
                }
            }
            match self.closing {
                Closing::No if all => return Want::More,
                Closing::No => {}
                Closing::ClientDone(until) => {
                    input.clear();
                    self.client_done(link, until);
                    return Want::More;
                }
                Closing::Told(_) | Closing::Done => {
                    input.clear();
                    return Want::More;
                }
            }
        }
    }

    /// The client will send no more, and the carried protocol has consumed what it sent.
    fn client_done(&mut self, link: &mut Link, until: Duration) {
        self.closing = Closing::Told(until);
        if self.inner.is_none() {
            return self.end(link, "closed_by_client");
        }
        self.call(link, |inner, link| {
            inner.input.clear();
            inner.protocol.handle_native_end(link);
        });
    }
}

/// What a client proved; `None` if it is not what it had to prove.
fn identity(association: &Association, settings: &Settings) -> Option<Identity> {
    match association.choice {
        Choice::Psk12 => association.psk_identity().map(|identity| Identity::Psk(identity.into())),
        Choice::Certificate12 | Choice::Certificate13(_) => {
            match (&settings.trust, &association.certificate) {
                (Some(_), Some(certificate)) => Some(Identity::Certificate(certificate.clone())),
                (Some(_), None) => None,
                (None, _) => Some(Identity::Anonymous),
            }
        }
    }
}

/// The UDP payload in a capsule, if it has one. Others are to be ignored (RFC 9297 §3.2, RFC 9298 §4).
fn udp_payload(capsule_type: CapsuleType, value: &[u8]) -> Option<&[u8]> {
    if capsule_type != CapsuleType::DATAGRAM {
        return None;
    }
    let datagram = Datagram::decode(value).ok()?;
    (datagram.context_id == UDP_PAYLOAD).then_some(datagram.payload)
}

impl<P: Protocol> Protocol for Dtls<P> {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        if self.current.is_none() && self.patience.is_none() && self.closing == Closing::No {
            self.patience = Some(link.now() + self.shared.settings.handshake_timeout);
        }
        let want = self.carry(link, input);
        self.set_deadline(link);
        want
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        if self.closing == Closing::No {
            self.client_done(link, link.now() + CLOSE_TIMEOUT);
        }
        self.set_deadline(link);
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        self.call(link, |inner, link| inner.protocol.handle_response(link, stream, response));
        self.set_deadline(link);
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        self.call(link, |inner, link| inner.protocol.handle_body(link, stream, body));
        self.set_deadline(link);
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        self.call(link, |inner, link| inner.protocol.handle_ended(link, stream, how));
        self.set_deadline(link);
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        let now = link.now();
        self.tell_time(link);
        let due = |time: Option<Duration>| time.is_some_and(|time| time <= now);
        if self.inner.as_ref().is_some_and(|inner| due(inner.deadline)) {
            self.call(link, |inner, link| {
                link.set_deadline(None);
                inner.protocol.handle_timeout(link);
            });
        }
        let idle = self.shared.settings.idle_timeout;
        match self.closing {
            Closing::ClientDone(until) | Closing::Told(until) if until <= now => {
                self.end(link, "closed_by_client");
            }
            Closing::No if due(self.current.as_ref().map(|current| current.heard + idle)) => {
                self.close(link, "idle");
            }
            // A handshake that is in progress has a time of its own.
            Closing::No if due(self.patience) && self.pending.is_none() => {
                self.end(link, "never_established");
            }
            _ => {}
        }
        if due(self.patience) {
            self.patience = None;
        }
        self.set_deadline(link);
    }

    fn handle_close(&mut self, by: Peer) {
        if let Some(inner) = &mut self.inner {
            inner.protocol.handle_close(by);
        }
    }
}
