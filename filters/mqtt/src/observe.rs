//! A session in observe mode.

use std::rc::Rc;
use std::time::Duration;

use bridge::{Direction, Peer};
use codec_mqtt::{Decoded, Version, decode_connect};

use crate::Common;
use crate::packets::{Seen, Watcher};
use crate::session::connack_label;

/// What is learnt from CONNECT.
#[derive(Debug)]
struct Learnt {
    version: Version,
    /// Filter state that has not been set yet.
    attributes: Vec<(&'static str, String)>,
}

/// One client's connection that passes by.
#[derive(Debug)]
pub struct Observer {
    common: Rc<Common>,
    client: Watcher,
    server: Watcher,
    learnt: Option<Learnt>,
    /// Octets are held back until this time at most.
    held_until: Option<Duration>,
    cause: Option<&'static str>,
}

impl Observer {
    pub(crate) fn new(common: Rc<Common>, now: Duration) -> Self {
        let settings = &common.settings;
        let held_until = settings.chooses_cluster().then(|| now + settings.connect_timeout);
        let client = Watcher::showing_connect(settings.max_connect_size);
        let server = Watcher::default();
        Self { common, client, server, learnt: None, held_until, cause: None }
    }

    fn learn(&mut self, octets: &[u8]) {
        let connect = match decode_connect(octets) {
            Ok(Decoded::Complete { packet, .. }) => packet,
            Ok(Decoded::Incomplete { .. }) => return,
            Err(error) => {
                self.common.stats.decode_error(Direction::FromClient, error.label());
                return;
            }
        };
        self.common.stats.session(connect.version);
        let mut attributes = vec![
            ("mqtt.client_id", connect.client_id.to_owned()),
            ("mqtt.version", connect.version.label().to_owned()),
        ];
        if let Some(username) = connect.username {
            attributes.push(("mqtt.username", username.to_owned()));
        }
        if let Some(cluster) = self.common.settings.cluster(connect.client_id, connect.username) {
            attributes.push(("envoy.tcp_proxy.cluster", cluster.to_owned()));
        }
        self.learnt = Some(Learnt { version: connect.version, attributes });
    }
}

impl bridge::Observer for Observer {
    fn see(&mut self, direction: Direction, octets: &[u8]) -> u64 {
        let watcher = match direction {
            Direction::FromClient => &mut self.client,
            Direction::ToClient => &mut self.server,
        };
        let stats = &self.common.stats;
        let version = self.learnt.as_ref().map_or(Version::V5, |learnt| learnt.version);
        let mut connect = None;
        let mut proceed = false;
        let skip = watcher.see(octets, |seen| match seen {
            Seen::Packet(frame) => {
                stats.packet(direction, frame.packet_type, frame.flags);
                // Whatever it is, the cluster can be chosen now.
                proceed = true;
            }
            Seen::Connect(packet) => connect = Some(packet.to_vec()),
            Seen::ConnAck(code) => stats.connack("broker", connack_label(version, code)),
            Seen::Disconnect(reason) => stats.disconnect(direction, reason.label()),
            Seen::Error(error) => {
                stats.decode_error(direction, error.label());
                proceed = true;
            }
        });
        if let Some(connect) = connect
            && self.learnt.is_none()
        {
            self.learn(&connect);
        }
        if proceed {
            self.held_until = None;
        }
        skip
    }

    fn passed(&mut self, direction: Direction, octets: usize) {
        self.common.stats.octets(direction, octets);
    }

    fn may_proceed(&self) -> bool {
        self.held_until.is_none()
    }

    fn deadline(&self) -> Option<Duration> {
        self.held_until
    }

    fn handle_timeout(&mut self) -> bool {
        self.common.stats.decode_error(Direction::FromClient, "connect_timeout");
        self.cause = Some("connect_timeout");
        true
    }

    fn attributes(&mut self, set: &mut dyn FnMut(&str, &str)) {
        if let Some(learnt) = &mut self.learnt {
            for (name, value) in std::mem::take(&mut learnt.attributes) {
                set(name, &value);
            }
        }
    }

    fn handle_close(&mut self, by: Peer) {
        if self.learnt.is_some() {
            self.common.stats.active.add(-1);
        }
        let cause = match by {
            Peer::Native => "client_closed",
            Peer::Next => "envoy_closed",
        };
        self.common.stats.closed(self.cause.unwrap_or(cause));
    }
}
