#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_tests::readers::SmallData;

thread_local!(static DATA: SmallData = SmallData::mnist(0, false));

fuzz_target!(|bytes: &[u8]| drop(DATA.with(|data| data.read(bytes))));
