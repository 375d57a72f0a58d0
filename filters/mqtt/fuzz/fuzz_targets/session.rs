//! Client and broker keep to the standard: the model of the property test, with the fuzzer's choices.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

fuzz_target!(|choices: &[u8]| {
    support::model::Model::run(choices);
});
