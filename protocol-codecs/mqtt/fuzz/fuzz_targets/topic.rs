#![no_main]

use codec_mqtt::Version;
use codec_mqtt::topic::{TopicFilter, TopicName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (filter, name) = input;
    if let Ok(name) = TopicName::new(filter) {
        // A topic name is a filter for itself, unless it reads as a shared subscription.
        let filter = TopicFilter::new(filter, Version::V311).expect("§4.7");
        assert!(filter.matches(name));
    }
    let (Ok(filter), Ok(name)) = (TopicFilter::new(filter, Version::V5), TopicName::new(name)) else {
        return;
    };
    assert_eq!(filter.matches(name), matches_by_the_letter(filter.filter(), name.as_str()));
});

/// The rules of §4.7, level by level, without a thought for speed.
fn matches_by_the_letter(filter: &str, name: &str) -> bool {
    let filters: Vec<&str> = filter.split('/').collect();
    let names: Vec<&str> = name.split('/').collect();
    if name.starts_with('$') && ["+", "#"].contains(&filters[0]) {
        return false;
    }
    let (filters, open) = match filters.split_last() {
        Some((&"#", parents)) => (parents, true),
        _ => (&filters[..], false),
    };
    (names.len() == filters.len() || open && names.len() > filters.len())
        && filters.iter().zip(&names).all(|(filter, name)| *filter == "+" || filter == name)
}
