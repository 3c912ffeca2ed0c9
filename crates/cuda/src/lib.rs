//! The fused optimizer step on CUDA: kernels for many tensors at once, and the plan of their
//! launches.
//!
//! A step of STAR, the blackbox or Adam is at most 6 launches for up to 224 tensors:
//!
//! 1. `lopt_gradients` checks the gradients, and sums ⟨Δ, g⟩ for the online scale and g² over rows
//!    and columns; if gradients are scaled, its last block sets their factor;
//! 2. `lopt_lines` updates the row and column moments and computes their factors;
//! 3. `lopt_accumulate` updates momenta and second moments, and sums the squares of the features;
//! 4. `lopt_finish` sums over blocks: normalizers, the learners of the online scale, the values of
//!    the step, and the lines' contributions to the first layer;
//! 5. `lopt_heads` sums the heads, if a magnitude belongs to a whole tensor;
//! 6. `lopt_apply` evaluates the MLP and updates the parameters.
//!
//! Adam needs 1, 4 and its own pass. More tensors need more launches of 1, 3, 5 and 6, whose
//! argument is a table of pointers.
//!
//! If a gradient has an invalid entry, the first launch sets a flag in the device's memory and the
//! others change nothing, so that a host that skips such steps never waits. The number of steps
//! taken is counted there too. Sums are taken in stages, in an order that depends on the shapes
//! alone, and without atomic operations on floats: a step gives the same bits each time.
//!
//! A fleet is many multi-layer perceptrons of one shape that are trained together, as in
//! meta-training ([`FleetPlan`]). Each launch is for all of them. An inner step begins with
//! `lopt_fleet_forward` for each layer, `lopt_fleet_loss`, and `lopt_fleet_backward` for each layer
//! from the last one down; then come the optimizer's launches. The images stay in the device's
//! memory, and a minibatch is a list of their indices.
//!
//! The arithmetic is that of `lopt-kernels`. Its source compiles for a CPU too, where the tests run
//! it in the order of this plan and compare.
//!
//! With the feature `ptx`, the build script compiles the kernels with nvcc.
//!
//! The crate has no `unsafe` code and does not launch anything: `lopt-cuda-backend` does.

pub mod bytes;
mod fleet;
pub mod layout;
mod optimizer;
mod plan;
mod sources;
pub mod theta;
pub mod tiling;

pub use fleet::{FleetLaunch, FleetPlaces, FleetPlan};
pub use optimizer::{Adam, Hidden, Optimizer, PerParameter, Rule, Scale};
pub use plan::{Launch, NetworkSlots, Number, Plan, Slots, Spec, Unplanned};
pub use sources::{ARCHITECTURE, OPTIONS, source};

/// [`source`] compiled for [`ARCHITECTURE`] and newer ones.
#[cfg(feature = "ptx")]
pub const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/lopt.ptx"));
