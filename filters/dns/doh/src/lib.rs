//! DNS messages over HTTPS (RFC 8484): pure functions without state or I/O.
//!
//! | | server | client |
//! |---|---|---|
//! | request | [`server::request`]: the query in a GET, HEAD or POST, or [`server::Failure`] | [`client::request`]: a POST |
//! | response | [`server::response`]: 200 with how long it is fresh | [`client::response`]: the answer, its TTLs less the response's age, or [`client::Unusable`] |
//!
//! Whatever the DNS has to say, SERVFAIL and REFUSED included, is said in a message with status 200 (RFC 8484
//! §4.2.1); [`server::Failure`] is for what is no query.

pub mod client;
mod header;
pub mod server;

/// The media type of a DNS message (RFC 8484 §6).
pub const MEDIA_TYPE: &str = "application/dns-message";

/// The path of most DoH servers, and of the examples in RFC 8484.
pub const DEFAULT_PATH: &str = "/dns-query";
