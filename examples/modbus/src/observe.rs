//! A connection in observe mode.

use std::rc::Rc;

use bridge::{Bytes, Direction, Input, Peer};
use codec_modbus::{Decoded, decode};

use crate::Common;

/// Counts the requests of a connection that passes by.
#[derive(Debug)]
pub struct Observer {
    common: Rc<Common>,
    /// The beginning of a frame, at most.
    client: Input,
    server: Input,
}

impl Observer {
    pub(crate) fn new(common: Rc<Common>) -> Self {
        common.stats.active.increment();
        Self { common, client: Input::default(), server: Input::default() }
    }
}

impl bridge::Observer for Observer {
    fn see(&mut self, direction: Direction, octets: &[u8]) -> u64 {
        let stats = &self.common.stats;
        let input = match direction {
            Direction::FromClient => &mut self.client,
            Direction::ToClient => &mut self.server,
        };
        input.push(Bytes::copy_from_slice(octets));
        loop {
            match decode(input.as_slice()) {
                Ok(Decoded::Complete { frame, consumed }) => {
                    if direction == Direction::FromClient {
                        stats.request(frame.function, "observe");
                    }
                    input.skip(consumed);
                }
                Ok(Decoded::Incomplete { .. }) => return 0,
                Err(error) => {
                    stats.decode_error(direction, error);
                    input.clear();
                    // Where the next frame begins is not known: no more of this direction is looked at.
                    return u64::MAX;
                }
            }
        }
    }

    fn handle_close(&mut self, _: Peer) {
        self.common.stats.active.add(-1);
    }
}
