//! Random sessions, and what holds in all of them.

use crate::support::model::Model;
use proptest::prelude::*;

/// Fewer in wasm, where they take longer; `fuzz/` runs many more.
const CASES: u32 = if cfg!(target_family = "wasm") { 60 } else { 300 };

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn any_session_answers_once_stays_in_bounds_and_ends(
        choices in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        Model::run(&choices);
    }
}
