//! What the CoAP filter promises, each file a part of it, in one program.

mod blocks;
mod checks;
mod flows;
mod hostile;
mod limits;
mod model;
mod observe;
mod requests;
mod sessions;
mod support;
mod tcp;
