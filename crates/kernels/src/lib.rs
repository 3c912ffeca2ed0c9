//! The hot loops of lopt on f32 slices: fused optimizer updates, and forward and backward passes
//! of multi-layer perceptrons.
//!
//! Each kernel is one generic body over a small vector trait, compiled for AVX-512, for AVX2 with
//! FMA and for any processor; [`Isa::best`] selects an instance at run time. Square roots and
//! divisions are correctly rounded, so an instance gives the same bits on all machines with the
//! same math library (which provides ln, exp and tanh). The crate does not depend on candle:
//! `lopt-per-param`, `lopt-adam` and `lopt-tasks` pass their tensors' memory to it and compare the
//! results with their candle ops.
//!
//! Besides the launches of CUDA kernels, this is the only crate with `unsafe` code. The portable
//! instance runs the same bodies with bounds checks, so a test that passes with it shows that a body
//! stays within its slices. `tests/instances.rs` is small enough for Miri.

mod adam;
mod isa;
mod math;
pub mod mlp;
mod parts;
pub mod per_param;
mod rows;
mod simd;
mod target;

pub use adam::{Adam, adam};
pub use isa::Isa;
pub use parts::{Run, one_thread};
pub use rows::{gather, gather_pixels};
pub use target::{Gradient, Target, UpdateSum, inner_products};
