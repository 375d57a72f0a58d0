//! A client over UDP that does nothing by itself.

use std::io::ErrorKind;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::PATIENCE;

/// A socket of its own, so a source of its own. What it receives becomes a `D`.
#[derive(Debug)]
pub struct Client<D>(UdpSocket, PhantomData<D>);

impl<D: From<Vec<u8>>> Client<D> {
    /// One on 127.0.0.1 that talks to this address.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        Self::connect_from(Ipv4Addr::LOCALHOST, server)
    }

    /// One with another address: all of 127.0.0.0/8 is this machine, and has its own ports.
    pub fn connect_from(address: Ipv4Addr, server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((address, 0))?;
        socket.connect(server)?;
        Ok(Self(socket, PhantomData))
    }

    /// Where it sends from.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }

    /// Sends octets as they are.
    pub fn send(&self, octets: &[u8]) -> Result<()> {
        let sent = self.0.send(octets)?;
        ensure!(sent == octets.len(), "{sent} of {} octets were sent", octets.len());
        Ok(())
    }

    /// The next datagram.
    pub fn receive(&self) -> Result<D> {
        let datagram = self.receive_within(PATIENCE)?;
        datagram.with_context(|| format!("waited {PATIENCE:?} in vain for a datagram"))
    }

    /// The next datagram, if one comes within this time.
    pub fn receive_within(&self, time: Duration) -> Result<Option<D>> {
        Ok(receive_within(&self.0, time)?.map(|(datagram, _)| D::from(datagram)))
    }

    /// Whether nothing comes within `time`.
    pub fn is_quiet_for(&self, time: Duration) -> Result<bool> {
        Ok(self.receive_within(time)?.is_none())
    }
}

/// The next datagram of a socket and who sent it, if one comes within this time.
pub(crate) fn receive_within(
    socket: &UdpSocket,
    time: Duration,
) -> Result<Option<(Vec<u8>, SocketAddr)>> {
    // Of length zero it would mean for ever.
    socket.set_read_timeout(Some(time.max(Duration::from_millis(1))))?;
    let mut buffer = vec![0; 65_536];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => {
            buffer.truncate(length);
            Ok(Some((buffer, from)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
