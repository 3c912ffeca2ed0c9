#![no_main]

use libfuzzer_sys::fuzz_target;
use lopt_fuzz::sealed;
use lopt_tests::readers::{CHECKPOINT, Killed};

thread_local!(static RUN: Killed = Killed::new("pes"));

fuzz_target!(|bytes: &[u8]| RUN.with(|run| sealed(bytes, |bytes| run.resumed(CHECKPOINT, bytes))));
