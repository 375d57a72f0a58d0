//! What the DNS filter promises, each file a part of it, in one program.

mod answers;
mod cache;
mod checks;
mod edns;
mod flows;
mod https;
mod limits;
mod log;
mod model;
mod requests;
mod support;
mod tcp;
mod udp;
mod watch;
mod zones;
