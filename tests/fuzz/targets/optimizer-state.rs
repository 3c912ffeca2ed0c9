#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use lopt_fuzz::sealed;
use lopt_tests::readers::State;

thread_local!(static STATE: RefCell<State> = RefCell::new(State::new()));

fuzz_target!(|bytes: &[u8]| STATE.with_borrow_mut(|state| sealed(bytes, |bytes| state.read(bytes))));
