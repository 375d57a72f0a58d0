//! CoAP messages as HTTP messages, and back (RFC 8075, RFC 7252 §10): pure functions without state
//! or I/O.
//!
//! | | CoAP to HTTP | HTTP to CoAP |
//! |---|---|---|
//! | Content-Format, Accept | [`format::set`], [`format::set_accept`] | [`format::of`], [`format::accept`] |
//! | ETag | [`etag::to_http`] | [`etag::from_http`] |
//! | requests | [`request::to_http`] | [`request::from_http`] |
//! | responses | [`response::to_http`] | [`response::from_http`] |
//!
//! Nothing that comes from the wire can forge a header, an authority or a path: what becomes a
//! header value is made of registered names, decimal and hexadecimal digits and percent-encoded
//! text; an authority has only the characters of a plain host name or an IP literal.
//!
//! Message types, message IDs, tokens, Observe, the block options, Hop-Limit, Echo and No-Response
//! concern one hop: they are left to whoever makes the exchange.

pub mod etag;
pub mod format;
mod options;
mod path;
pub mod request;
pub mod response;
mod text;

pub use options::OptionSet;
