//! A client over TCP. With the first octet even, clients and servers mostly keep to the standard: the model of the property
//! test, with the fuzzer's choices. Else nobody keeps to anything: any octets from the clients, the servers and the
//! connection manager, in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

use support::native::Tcp;

fuzz_target!(|octets: &[u8]| support::hostile::fuzz::<Tcp>(octets));
