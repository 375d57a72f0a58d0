//! Random connections of every transport, and what holds in all of them.

use crate::support;
use crate::support::native::{Https, Tcp, Udp};
use proptest::prelude::*;

/// Fewer in wasm, where they take longer; `fuzz/` runs many more.
const CASES: u32 = if cfg!(target_family = "wasm") { 60 } else { 400 };

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn any_query_is_answered_once_with_its_own_answer_and_nothing_is_left(
        choices in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        support::model::run(&choices);
    }

    #[test]
    fn whatever_is_sent_only_queries_reach_a_server_and_nothing_is_left(
        mode in any::<u8>(),
        choices in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let octets = [&[mode | 1][..], &choices].concat();
        match mode >> 2 & 3 {
            0 => support::hostile::fuzz::<Https>(&octets),
            1 => support::hostile::fuzz::<Tcp>(&octets),
            _ => support::hostile::fuzz::<Udp>(&octets),
        }
    }
}
