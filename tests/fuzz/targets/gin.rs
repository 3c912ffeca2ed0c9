#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_tests::readers::{flax, read_flax};

fuzz_target!(|text: &str| drop(read_flax(&flax(), text)));
