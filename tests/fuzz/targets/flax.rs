#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_tests::readers::read_flax;

fuzz_target!(|bytes: &[u8]| drop(read_flax(bytes, "")));
