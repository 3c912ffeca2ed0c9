#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_tests::readers::parsed;

fuzz_target!(|text: &str| drop(parsed(text, &[])));
