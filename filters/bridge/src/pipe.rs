//! The in-memory transport that an HTTP/2 connection reads from and writes to.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets on their way to and from the peer.
#[derive(Debug, Default)]
struct Octets {
    incoming: Bytes,
    outgoing: Vec<u8>,
}

/// One end of an in-memory transport for an HTTP/2 connection that is driven by hand. Clones share the
/// same octets: the driver keeps one end and the connection owns the other.
///
/// It wakes nobody: whoever offers octets polls the connection afterwards. It takes every octet that is
/// written; flow control bounds how many those are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<Octets>>);

impl Pipe {
    /// Makes octets from the peer readable. The previous ones must have been read.
    pub(crate) fn offer(&self, octets: Bytes) {
        let mut inner = self.0.borrow_mut();
        debug_assert!(inner.incoming.is_empty());
        inner.incoming = octets;
    }

    /// Whether everything offered has been read.
    pub(crate) fn is_read(&self) -> bool {
        self.0.borrow().incoming.is_empty()
    }

    /// Whether there are octets for the peer.
    pub(crate) fn has_output(&self) -> bool {
        !self.0.borrow().outgoing.is_empty()
    }

    /// How many octets there are for the peer.
    pub(crate) fn output_len(&self) -> usize {
        self.0.borrow().outgoing.len()
    }

    /// Takes what was written for the peer. The memory goes along: a bridge that has nothing to say
    /// holds none.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().outgoing)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        if inner.incoming.is_empty() {
            // Whoever offers more octets polls the connection afterwards: no waker is needed.
            return Poll::Pending;
        }
        let n = inner.incoming.len().min(buf.remaining());
        let (head, _) = inner.incoming.split_at(n);
        buf.put_slice(head);
        inner.incoming.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().outgoing.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outgoing = &mut self.0.borrow_mut().outgoing;
        let len = bufs.iter().map(|buf| buf.len()).sum();
        outgoing.reserve(len);
        for buf in bufs {
            outgoing.extend_from_slice(buf);
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
