//! HTTP requests as exchanges with CoAP servers (RFC 8075): the client role of a CoAP gateway.
//!
//! [`Egress`] is the service behind an [`HttpServer`](http_server::HttpServer). A request's method,
//! path and headers become a CoAP request as [`coap_http`] says, and the response comes back the
//! same way. Between them is all that HTTP does not have: confirmable messages with retransmission
//! and deduplication (RFC 7252 §4), separate responses (RFC 7252 §5.2.2), block-wise transfers in
//! both directions (RFC 7959), and observations (RFC 7641).
//!
//! # Flows
//!
//! Datagrams travel in *flows*: streams `POST /<key>` towards the next filter with `x-protocol:
//! coap` and `x-carry: flow`, whose content are DATAGRAM capsules (RFC 9297) in both directions. To
//! the CoAP server one flow is one endpoint. Requests with the same authority and the same first
//! segments of the path share a flow, except those whose content goes block by block: servers tell
//! such transfers apart by endpoint and path alone (RFC 7959 §2.4), so each has a flow of its own
//! while it lasts. A flow ends after a time without a request. After so many messages that its
//! message IDs could be taken for duplicates (RFC 7252 §4.4), another takes its place.
//!
//! A flow is ended with END_STREAM. Envoy's UDP upstream never ends its side, but the route's
//! `timeout` counts from there on, so the routes of flows must have one, such as `1s`: with `0s`
//! every flow would leave a stream and a socket behind. It does not end a flow that is in use.
//! Until then it counts as a stream, so the next filter has to allow twice as many of them at once
//! as there may be flows.
//!
//! # Request headers
//!
//! | header | effect |
//! |---|---|
//! | `accept: text/event-stream`, on GET | observes the resource: each notification becomes an event |
//! | `x-coap-type: non` | sends non-confirmable messages |
//! | `x-coap-hop-limit: <n>` | Hop-Limit as received on the way here: *n* - 1 is sent on (RFC 8768 §3) |
//!
//! A server that asks for an Echo option with 4.01 is sent it, once for each request (RFC 9175
//! §2.3).
//!
//! An event has the sequence number of its notification as `id` and its payload as `data`: as it is
//! if the Content-Format is text, else in base64. The response's `x-coap-content-type` says what it
//! is of. An event `error` ends an observation that failed. A client that reads too slowly misses
//! events, but never the last one.
//!
//! # Answers of the gateway's own
//!
//! | status | when |
//! |---|---|
//! | 400, 406, 412, 414, 415, 501 | the request cannot be said in CoAP |
//! | 413 | the content is too long, here or for the CoAP server |
//! | 502 | a reset message, or a response that cannot be used |
//! | 503 | too much is going on; with `retry-after` |
//! | 504 | no answer in time |
//! | 508 | the Hop-Limit is used up |
//!
//! If the next filter refuses a flow, its status is the answer to all requests in it.

mod config;
mod event;
mod exchange;
mod flow;
mod random;
mod service;
mod stats;

pub use config::{Config, Settings};
pub use service::Egress;
