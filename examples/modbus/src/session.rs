//! A connection in bridge mode.

use std::rc::Rc;
use std::time::Duration;

use bridge::{
    Bytes, Direction, Ended, Input, Link, Peer, Protocol, Response, StatusCode, StreamId, Want,
};
use codec_modbus::{Decoded, Exception, Frame, Function, MAX_DATA_LEN, decode};

use crate::Common;
use crate::config::Carry;
use crate::http;

/// One client's connection.
#[derive(Debug)]
pub struct Session {
    common: Rc<Common>,
    flows: Vec<Flow>,
    pending: Vec<Pending>,
    /// Whether the request in front of the input may go on. It stays there meanwhile, and all behind it.
    check: Option<Check>,
    unsent: Option<Unsent>,
}

/// The stream of a unit.
#[derive(Debug)]
struct Flow {
    unit: u8,
    stream: StreamId,
    /// What the server has sent of a frame: less than one.
    answer: Input,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    transaction: u16,
    unit: u8,
    function: Function,
    until: Duration,
    /// Where it is an HTTP request of its own.
    exchange: Option<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    stream: StreamId,
    status: Option<StatusCode>,
    /// The answer's data, and no more than one octet above what a frame can have.
    data: Vec<u8>,
}

#[derive(Debug)]
enum Check {
    Asked {
        stream: StreamId,
        until: Duration,
    },
    /// `None` where nobody answered.
    Answered(Option<StatusCode>),
}

/// What a stream has had no room for.
#[derive(Debug)]
struct Unsent {
    stream: StreamId,
    octets: Bytes,
    /// The stream ends with them.
    last: bool,
}

impl Pending {
    fn new(frame: &Frame<'_>, until: Duration, exchange: Option<Exchange>) -> Self {
        let Frame { transaction, unit, function, .. } = *frame;
        Self { transaction, unit, function, until, exchange }
    }

    fn frame<'a>(&self, data: &'a [u8]) -> Frame<'a> {
        let Self { transaction, unit, function, .. } = *self;
        Frame { transaction, unit, function, data }
    }

    /// Whether this is the answer, of a server.
    fn is_answered_by(&self, frame: &Frame<'_>) -> bool {
        self.exchange.is_none()
            && (self.transaction, self.unit) == (frame.transaction, frame.unit)
            && [self.function, self.function.as_exception()].contains(&frame.function)
    }

    fn is_on(&self, stream: StreamId) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.stream == stream)
    }
}

impl Session {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        common.stats.active.increment();
        Self { common, flows: Vec::new(), pending: Vec::new(), check: None, unsent: None }
    }

    /// Carries requests on until there is none, or the next one has to wait.
    fn carry_on(&mut self, link: &mut Link, input: &mut Input) -> Want {
        loop {
            if !self.flush(link) || self.pending.len() >= self.common.settings.max_pending {
                return Want::Room;
            }
            let octets = input.share();
            match decode(&octets) {
                Ok(Decoded::Complete { frame, consumed }) => {
                    if !self.carry(link, &frame, octets.slice(..consumed)) {
                        return Want::Room;
                    }
                    input.skip(consumed);
                }
                Ok(Decoded::Incomplete { .. }) => return Want::More,
                Err(error) => {
                    // Modbus has no words for this, and where the next frame begins is not known.
                    self.common.stats.decode_error(Direction::FromClient, error);
                    link.close();
                    return Want::More;
                }
            }
        }
    }

    /// Carries a request on, unless it has to wait for its check. `octets` are those of the frame.
    fn carry(&mut self, link: &mut Link, frame: &Frame<'_>, octets: Bytes) -> bool {
        let common = Rc::clone(&self.common);
        let carry = common.settings.carry(frame);
        let done = if !frame.function.is_request() {
            Err(Exception::ILLEGAL_FUNCTION)
        } else if carry == Carry::Check {
            match self.check.take() {
                None => match self.open(link, carry, frame, true) {
                    Ok(stream) => {
                        let until = link.now() + common.settings.timeout;
                        self.check = Some(Check::Asked { stream, until });
                        return false;
                    }
                    Err(exception) => Err(exception),
                },
                Some(asked @ Check::Asked { .. }) => {
                    self.check = Some(asked);
                    return false;
                }
                Some(Check::Answered(Some(status))) if status.is_success() => {
                    self.forward(link, frame, octets)
                }
                Some(Check::Answered(status)) => Err(http::exception(status)),
            }
        } else if carry == Carry::Flow {
            self.forward(link, frame, octets)
        } else {
            self.post(link, frame)
        };
        common.stats.request(frame.function, carry.label());
        if let Err(exception) = done {
            self.refuse(link, frame, exception);
        }
        true
    }

    fn open(
        &self,
        link: &mut Link,
        carry: Carry,
        frame: &Frame<'_>,
        end_stream: bool,
    ) -> Result<StreamId, Exception> {
        let request = http::request(&self.common.settings, carry, frame)?;
        link.open(request, end_stream).map_err(|_| Exception::SERVER_DEVICE_BUSY)
    }

    /// Sends a request in the stream of its unit.
    fn forward(
        &mut self,
        link: &mut Link,
        frame: &Frame<'_>,
        octets: Bytes,
    ) -> Result<(), Exception> {
        let known = self.flows.iter().find(|flow| flow.unit == frame.unit);
        let stream = match known {
            Some(flow) => flow.stream,
            None if self.flows.len() >= self.common.settings.max_flows => {
                return Err(Exception::SERVER_DEVICE_BUSY);
            }
            None => {
                let stream = self.open(link, Carry::Flow, frame, false)?;
                let answer = Input::default();
                self.flows.push(Flow { unit: frame.unit, stream, answer });
                stream
            }
        };
        self.wait_for(link, frame, None);
        self.unsent = Some(Unsent { stream, octets, last: false });
        Ok(())
    }

    /// Makes a request an HTTP request.
    fn post(&mut self, link: &mut Link, frame: &Frame<'_>) -> Result<(), Exception> {
        let stream = self.open(link, Carry::Request, frame, false)?;
        self.wait_for(link, frame, Some(Exchange { stream, status: None, data: Vec::new() }));
        let octets = Bytes::copy_from_slice(frame.data);
        self.unsent = Some(Unsent { stream, octets, last: true });
        Ok(())
    }

    fn wait_for(&mut self, link: &Link, frame: &Frame<'_>, exchange: Option<Exchange>) {
        let until = link.now() + self.common.settings.timeout;
        self.pending.push(Pending::new(frame, until, exchange));
    }

    /// Sends what is left of a request. Whether nothing is.
    fn flush(&mut self, link: &mut Link) -> bool {
        if let Some(unsent) = &mut self.unsent {
            link.send_octets(unsent.stream, &mut unsent.octets);
            if !unsent.octets.is_empty() {
                return false;
            }
            if unsent.last {
                link.finish(unsent.stream);
            }
            self.unsent = None;
        }
        true
    }

    fn reply(link: &mut Link, frame: &Frame<'_>) {
        let mut octets = vec![0; frame.encoded_len()];
        if frame.encode(&mut octets).is_ok() {
            link.reply(octets.into());
        }
    }

    fn refuse(&self, link: &mut Link, frame: &Frame<'_>, exception: Exception) {
        self.common.stats.exception(exception);
        Self::reply(link, &frame.refusal(exception, &mut [0]));
    }

    /// Refuses the requests that `which` chooses.
    fn refuse_pending(
        &mut self,
        link: &mut Link,
        exception: Exception,
        which: impl Fn(&Pending) -> bool,
    ) -> Vec<Pending> {
        let refused: Vec<_> = self.pending.extract_if(.., |pending| which(pending)).collect();
        for pending in &refused {
            self.refuse(link, &pending.frame(&[]), exception);
        }
        refused
    }

    /// Passes a server's answers on, frame by frame: those of several servers share the connection.
    fn pass_answers(&mut self, link: &mut Link, index: usize, octets: Bytes) {
        let Some(flow) = self.flows.get_mut(index) else { return };
        flow.answer.push(octets);
        loop {
            match decode(flow.answer.as_slice()) {
                Ok(Decoded::Complete { frame, consumed }) => {
                    let waits = self.pending.iter().position(|it| it.is_answered_by(&frame));
                    let octets = flow.answer.take(consumed);
                    if let Some(waits) = waits {
                        self.pending.remove(waits);
                        link.reply(octets);
                    } else {
                        self.common.stats.unmatched.increment();
                    }
                }
                Ok(Decoded::Incomplete { .. }) => return,
                Err(error) => {
                    self.common.stats.decode_error(Direction::ToClient, error);
                    let stream = flow.stream;
                    self.lose(link, index, None);
                    link.reset(stream);
                    return;
                }
            }
        }
    }

    /// Ends a flow, and refuses what waits in it.
    fn lose(&mut self, link: &mut Link, index: usize, status: Option<StatusCode>) {
        let Flow { unit, stream, .. } = self.flows.remove(index);
        link.finish(stream);
        self.unsent.take_if(|unsent| unsent.stream == stream);
        let waits = |pending: &Pending| pending.exchange.is_none() && pending.unit == unit;
        self.refuse_pending(link, http::exception(status), waits);
    }

    /// Answers with what an HTTP service said.
    fn answer(&mut self, link: &mut Link, index: usize, how: Ended) {
        let pending = self.pending.remove(index);
        let Some(Exchange { stream, status, data }) = &pending.exchange else { return };
        self.unsent.take_if(|unsent| unsent.stream == *stream);
        link.finish(*stream);
        let outcome = match (how, status) {
            (Ended::Complete, Some(status)) if status.is_success() => Ok(data),
            (Ended::Complete, status) => Err(http::exception(*status)),
            (Ended::Reset(_), _) => Err(http::exception(None)),
        };
        match outcome {
            Ok(data) if data.len() <= MAX_DATA_LEN => Self::reply(link, &pending.frame(data)),
            Ok(_) => self.refuse(link, &pending.frame(&[]), Exception::SERVER_DEVICE_FAILURE),
            Err(exception) => self.refuse(link, &pending.frame(&[]), exception),
        }
    }

    fn set_deadline(&self, link: &mut Link) {
        let check = match self.check {
            Some(Check::Asked { until, .. }) => Some(until),
            _ => None,
        };
        link.set_deadline(self.pending.iter().map(|pending| pending.until).chain(check).min());
    }
}

impl Protocol for Session {
    fn handle_native(&mut self, link: &mut Link, input: &mut Input) -> Want {
        let want = self.carry_on(link, input);
        self.set_deadline(link);
        want
    }

    fn handle_native_end(&mut self, link: &mut Link) {
        link.close();
    }

    fn handle_response(&mut self, link: &mut Link, stream: StreamId, response: Response<()>) {
        let status = response.status();
        if let Some(index) = self.flows.iter().position(|flow| flow.stream == stream) {
            if !status.is_success() {
                self.lose(link, index, Some(status));
            }
        } else if matches!(self.check, Some(Check::Asked { stream: asked, .. }) if asked == stream)
        {
            self.check = Some(Check::Answered(Some(status)));
        } else if let Some(pending) = self.pending.iter_mut().find(|it| it.is_on(stream))
            && let Some(exchange) = &mut pending.exchange
        {
            exchange.status = Some(status);
        }
        self.set_deadline(link);
    }

    fn handle_body(&mut self, link: &mut Link, stream: StreamId, body: Bytes) {
        if let Some(index) = self.flows.iter().position(|flow| flow.stream == stream) {
            self.pass_answers(link, index, body);
        } else if let Some(pending) = self.pending.iter_mut().find(|it| it.is_on(stream))
            && let Some(exchange) = &mut pending.exchange
        {
            let room = (MAX_DATA_LEN + 1).saturating_sub(exchange.data.len());
            exchange.data.extend_from_slice(body.get(..room).unwrap_or(&body));
        }
        self.set_deadline(link);
    }

    fn handle_ended(&mut self, link: &mut Link, stream: StreamId, how: Ended) {
        if let Some(index) = self.flows.iter().position(|flow| flow.stream == stream) {
            self.lose(link, index, None);
        } else if matches!(self.check, Some(Check::Asked { stream: asked, .. }) if asked == stream)
        {
            self.check = Some(Check::Answered(None));
        } else if let Some(index) = self.pending.iter().position(|it| it.is_on(stream)) {
            self.answer(link, index, how);
        }
        self.set_deadline(link);
    }

    fn handle_timeout(&mut self, link: &mut Link) {
        let now = link.now();
        if let Some(Check::Asked { stream, until }) = self.check
            && until <= now
        {
            link.abandon(stream);
            self.check = Some(Check::Answered(None));
        }
        let late = |pending: &Pending| pending.until <= now;
        for pending in self.refuse_pending(link, Exception::GATEWAY_TARGET_FAILED, late) {
            if let Some(exchange) = pending.exchange {
                self.unsent.take_if(|unsent| unsent.stream == exchange.stream);
                link.reset(exchange.stream);
            }
        }
        self.set_deadline(link);
    }

    fn handle_close(&mut self, _: Peer) {
        self.common.stats.active.add(-1);
    }
}
