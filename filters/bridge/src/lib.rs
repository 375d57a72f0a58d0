//! A sans-IO engine that carries a native protocol to the next filter as HTTP/2, or, where one request is all that there is, as
//! HTTP/1.1.
//!
//! A [`Bridge`] sits between one native peer (an MQTT client, say) and one HTTP/2 server (the next
//! filter in the chain). A [`Protocol`] decides what the native octets mean: it opens HTTP/2
//! streams, sends parts of its input on them, and answers the native peer.
//!
//! ```text
//!                 ┌──────────────── Bridge ────────────────┐
//!  native octets ─▶ Input ─▶ Protocol ─▶ Link ─▶ HTTP/2 client ─▶ octets for the next filter
//!  native octets ◀──────────  Protocol ◀─ Link ◀─ HTTP/2 client ◀─ octets from the next filter
//!                 └────────────────────────────────────────┘
//! ```
//!
//! The engine is deterministic: octets and the time go in, octets and the next deadline come out.
//! It has no clock, no randomness and makes no call to its surroundings.
//!
//! # Order of calls
//!
//! 1. One of [`Bridge::handle_native`], [`Bridge::handle_native_end`], [`Bridge::handle_http`] or
//!    [`Bridge::handle_timeout`]; [`Bridge::request_turn`] where the surroundings need it.
//! 2. [`Bridge::take_http`], and deliver what it returned to the next filter; where the
//!    surroundings can write to the native peer now, [`Bridge::take_native`], and deliver that.
//! 3. [`Bridge::next_step`], which says what else the bridge waits for.
//!
//! # Bounds
//!
//! The bridge holds native input only while a stream has no room for it or a packet is incomplete;
//! [`Bridge::accepts_native`] says when to stop offering more, so that the octets stay where they
//! are and the native peer's transport slows down. What the next filter sends is bounded by the
//! windows of [`Limits`].

mod engine;
mod http1;
mod http2;
mod input;
pub mod metrics;
mod observe;
mod pipe;
pub mod server;
mod shelf;
pub mod text;
mod woken;

pub use bytes::Bytes;
pub use engine::{Bridge, Captured, Link, NextStep, Peer, Protocol, Surroundings, Want};
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
pub use http2::{Ended, Limits, OpenError, StreamId};
pub use input::Input;
pub use observe::{Direction, Observer};
pub use shelf::{OwnShelf, Shelf};
