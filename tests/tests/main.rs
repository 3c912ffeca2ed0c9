//! The tests that need more than one crate, in one binary.

mod golden_adam;
mod golden_optimizers;
mod golden_parts;
