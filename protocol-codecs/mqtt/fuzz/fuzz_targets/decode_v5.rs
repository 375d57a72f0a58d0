#![no_main]

use codec_mqtt::Version;
use codec_mqtt_fuzz::check_decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| check_decode(bytes, Version::V5));
