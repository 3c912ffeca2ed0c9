//! Damaged, forged and hostile files: an error or something valid, never a panic, and never more
//! memory than stated.
//!
//! `cargo xtask fuzz` runs these tests with other seeds for as long as asked.

mod by_hand;
mod config;
mod data;
mod flax;
mod run;
mod sealed;
