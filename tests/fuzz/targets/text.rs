#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_datasets::unpack;

fuzz_target!(|bytes: &[u8]| drop(unpack(bytes)));
