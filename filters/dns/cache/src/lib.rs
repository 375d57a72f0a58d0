//! Answers of DNS servers, kept for as long as they hold, within a limit of octets.
//!
//! [`Cache::put`] takes the answer to what was [`Asked`], [`Cache::get`] finds it again as a [`Hit`], which
//! writes the complete message with the ID and the case of the query and with TTLs that have counted down
//! (RFC 1035 §3.2.1). One cache belongs to one worker. It knows the time only from its caller, and does
//! nothing that depends on chance but place its hashes.
//!
//! * Names are the same in any case (RFC 4343). Type, class and the flags that change an answer have to be
//!   the same, too; an answer for a network is for who asks from it alone (RFC 7871 §7.3).
//! * Negative answers are kept for as long as their SOA record says (RFC 2308 §5).
//! * An answer that has expired may be used for a while when there is no other (RFC 8767).
//! * What is kept is encoded anew, so that no octet of it is both a TTL and something else. OPT is left
//!   out: it speaks about one message. Of its options the extended errors are kept (RFC 8914).
//!
//! ```
//! use std::time::Duration;
//! use codec_dns::decode;
//! use dns_cache::{Asked, Cache, Limits, State, Stored};
//!
//! let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
//! let answer = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x07example\x03com\0\0\x01\0\x01\
//!     \xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x01";
//! let mut cache = Cache::new(Limits::default());
//! let query = decode(query)?;
//! let asked = Asked::of(&query).unwrap();
//! let seconds = Duration::from_secs;
//! assert_eq!(cache.put(&asked, &decode(answer)?, seconds(100)), Stored::Yes);
//!
//! let hit = cache.get(&asked, seconds(160)).unwrap();
//! assert_eq!(hit.state(), State::Fresh);
//! let mut out = Vec::new();
//! hit.write(&mut out, 0x5678);
//! let hit = decode(&out)?;
//! assert_eq!((hit.header.id, hit.answers().next().unwrap().ttl), (0x5678, 240));
//! # Ok::<(), codec_dns::DecodeError>(())
//! ```

mod answer;
mod asked;
mod cache;
mod entry;
mod limits;
mod network;

pub use answer::Stored;
pub use asked::{Asked, AskedFlags};
pub use cache::Cache;
pub use entry::{ExtendedErrors, Hit, State};
pub use limits::{Limits, Prefetch};
