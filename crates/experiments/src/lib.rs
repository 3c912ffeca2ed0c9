//! The experiments of this project, as functions from settings to tables and figures.
//!
//! * [`claims`] reproduces the claims of the STAR paper (arXiv 2209.11208) in a [`Lab`], which
//!   shares meta-trainings and evaluations between them.
//! * [`grad_study`] compares gradient estimators with the exact meta-gradient.
//! * [`theory`] illustrates the noisy quadratic model, [`linearized`] the stability of an
//!   optimizer in a real training run.
//! * [`curves`] plots a meta-training run.
//!
//! Long experiments report progress to a callback and stop when a flag is set. Nothing is printed.
//! The lab writes its meta-trainings and evaluations, from which it resumes; saving tables and
//! figures is up to the caller.

pub mod claims;
pub mod curves;
mod error;
pub mod grad_study;
mod lab;
pub mod linearized;
mod table;
pub mod theory;

pub use error::{Error, Result};
pub use lab::{Event, Lab, Run, Variant, program};
pub use table::{Table, interval};
