#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_tests::readers::Killed;

thread_local!(static RUN: Killed = Killed::new("pes"));

fuzz_target!(|bytes: &[u8]| drop(RUN.with(|run| run.resumed("metrics.jsonl", bytes))));
