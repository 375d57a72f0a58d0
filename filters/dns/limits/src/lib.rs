//! Who asks too much, as far as one worker can tell: rate limits on clients, blocks of those above them,
//! and response rate limiting against reflection.
//!
//! [`Settings`] is what the configuration says; [`Limits`] counts. [`Limits::query`] is asked about each
//! query before anything else is done for it, and [`Limits::answer`] about each answer before it is sent. The
//! time comes from the caller, who also sends the refusals and keeps the metrics.
//!
//! # Who a client is
//!
//! Whoever sends a datagram chooses its source address. So what is asked over UDP is counted apart from what
//! a client asks that has proved its address ([`Transport`]): nobody can use up what another is allowed over
//! TCP, or with a cookie, by asking in its name. This is what makes [`Exceeded::Truncate`] work: a client
//! that is really there comes back over TCP and has a bucket of its own. It also means that a client that
//! uses both has twice as much.
//!
//! # What is bounded
//!
//! Every limit has a table of its own with a fixed number of places, allocated once, and a query costs the
//! same whether a table is empty or full: an address has eight places where it may be, chosen by a hash with
//! a secret. Where all are taken, the one is forgotten that would be forgiven first: whose bucket is full
//! again, or whose block ends, before the others'. That
//!
//! * loses nothing, as long as there is one whose bucket is full again;
//! * gives a client that asks little a full bucket, never an empty one: a full table locks nobody out;
//! * keeps who asks most, and who is blocked, longest. A client with so many tokens taken is forgotten when
//!   the other seven of its places, which it cannot choose, are all taken by clients with more of them taken,
//!   or longer blocks: bringing that about takes about as many times what it asks itself as there are places
//!   in the table.
//!
//! So when more clients than there are places are above a limit at once, those that asked least of them get
//! a full bucket too early. [`Limits::forgotten`] counts them.

mod answer;
mod config;
mod limits;
mod source;
mod table;

pub use answer::{Answer, Kind};
pub use config::{
    Config, Exceeded, Per, QueriesConfig, RateLimitConfig, ResponseRateLimitConfig, Settings,
};
pub use limits::{Excess, Limits, Sending, Verdict};
pub use source::{Client, SourceSet, Transport};
