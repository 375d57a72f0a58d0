//! Random sessions, and what holds in all of them.

mod support;

use proptest::prelude::*;
use support::model::Model;

proptest! {
    // `fuzz/` runs many more.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::with_cases(300)
    })]

    #[test]
    fn any_session_answers_once_stays_in_bounds_and_ends(
        choices in proptest::collection::vec(any::<u8>(), 0..500),
    ) {
        Model::run(&choices);
    }
}
