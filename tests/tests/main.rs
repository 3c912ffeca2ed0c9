//! Tests that need more than one crate, in one binary.

mod architecture;
mod backend;
mod contract;
mod families;
mod files;
mod fused;
mod golden_adam;
mod golden_estimators;
mod golden_metagrad;
mod golden_online_scale;
mod golden_optimizers;
mod golden_parts;
mod inner_weight_decay;
mod meta_gradient;
mod models;
mod online_scale;
mod outside;
mod pretrained;
mod stability;
mod suites;
mod tasks;
mod threads;
mod training;
