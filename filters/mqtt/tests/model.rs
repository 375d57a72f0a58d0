//! Random sessions beside a model of what client and broker may expect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use proptest::prelude::*;
use support::model::Model;

/// Fewer in wasm, where they take longer; `fuzz/` runs many more.
const CASES: u32 = if cfg!(target_family = "wasm") { 40 } else { 200 };

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None,
        max_shrink_iters: 1500,
        ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn any_session_is_what_client_and_broker_may_expect(
        choices in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        Model::run(&choices);
    }
}
