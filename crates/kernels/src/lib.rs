//! The hot loops of lopt on plain f32 memory: fused optimizer updates, and forward and
//! backward passes of multi-layer perceptrons.
//!
//! Each kernel is one generic body over a small vector trait, compiled for AVX-512, for
//! AVX2 with FMA and for any processor; [`Isa::best`] picks at run time. Square roots and
//! divisions are exact, so the same instance gives the same bits on every machine with the
//! same mathematical library (it takes a logarithm and a few tanh). The crate knows nothing of candle; `lopt-per-param`, `lopt-adam` and `lopt-tasks` bring
//! tensors here and compare the results with their candle-op paths.
//!
//! The only crate with `unsafe` code. The portable instance runs the same bodies with
//! checked accesses, so a test that passes with it shows that a body stays within its
//! slices; `tests/instances.rs` is small enough for Miri.

mod adam;
mod isa;
mod math;
pub mod mlp;
pub mod per_param;
mod rows;
mod simd;

pub use adam::{Adam, adam};
pub use isa::Isa;
pub use rows::{gather, gather_pixels};
