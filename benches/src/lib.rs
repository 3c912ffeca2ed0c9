//! The workloads that are measured, by the criterion benches beside this folder and by the
//! table of `cargo xtask bench`.
//!
//! `README.md` has the figures.

pub mod drop_in;
pub mod inner;
pub mod timing;
pub mod updates;

/// As in the program `lopt`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
