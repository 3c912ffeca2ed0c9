//! The workloads of the criterion benches and of the table of `cargo xtask bench`. `README.md`
//! lists the results.

pub mod drop_in;
pub mod inner;
pub mod timing;
pub mod updates;

/// The allocator of `lopt`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
