#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_fuzz::sealed;
use lopt_tests::readers::read_theta;

fuzz_target!(|bytes: &[u8]| sealed(bytes, read_theta));
