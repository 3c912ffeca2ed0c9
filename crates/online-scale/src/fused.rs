//! The online scale of a fused update.

use lopt_kernels::{Isa, Target, UpdateSum, inner_product};

use crate::{EPSILON, OnlineScale, TINY};

/// The online scale of a [`FusedUpdate`](lopt_core::FusedUpdate), or no scale.
#[derive(Clone, Debug)]
pub struct FusedScale {
    isa: Isa,
    config: Option<OnlineScale>,
    /// ⟨Δ, ∇⟩ of the tensors seen so far in this step.
    slope: f64,
    change: f32,
    scale: f32,
}

impl FusedScale {
    /// Creates it for one network.
    pub fn new(isa: Isa, config: Option<&OnlineScale>) -> Self {
        Self {
            isa,
            config: config.cloned(),
            slope: 0.0,
            change: 0.0,
            scale: 0.0,
        }
    }

    /// Adds ⟨Δ, ∇⟩ of one tensor, whose last slot is Δ, before the step begins.
    pub fn observe(&mut self, g: &[f32], slots: &[Vec<f32>]) {
        if let (Some(_), Some(sum)) = (&self.config, slots.last()) {
            self.slope += inner_product(self.isa, sum, g);
        }
    }

    /// Computes the scale of the step from all observations. `network` holds the slots of the
    /// network, the last four of which belong to the scale.
    pub fn begin_step(&mut self, network: &mut [Vec<f32>]) {
        let slope = std::mem::take(&mut self.slope);
        if let (Some(config), Some([m, v, r, s])) = (&self.config, network.last_chunk_mut()) {
            let old: f32 = s.iter().sum();
            config.advance(slope as f32, [m, v, r, s]);
            self.scale = s.iter().sum();
            self.change = self.scale - old;
        }
    }

    /// Splits the slots of a tensor into Δ, which becomes part of the target, and the slots of the
    /// optimizer itself.
    pub fn target<'a>(
        &self,
        p: &'a mut [f32],
        slots: &'a mut [Vec<f32>],
    ) -> (Target<'a>, &'a mut [Vec<f32>]) {
        let split = match &self.config {
            Some(_) => slots.split_last_mut(),
            None => return (Target::parameters(p), slots),
        };
        let Some((sum, slots)) = split else {
            return (Target::parameters(p), &mut []);
        };
        let sum = Some(UpdateSum {
            sum,
            change: self.change,
            scale: self.scale,
        });
        (Target { p, sum }, slots)
    }
}

impl OnlineScale {
    /// Updates m, v, r and s of all learners.
    fn advance(&self, h: f32, [m, v, r, s]: [&mut [f32]; 4]) {
        let (epsilon, tiny) = (EPSILON as f32, TINY as f32);
        let start = (self.initial / self.learners as f64) as f32;
        for (i, beta) in self.decays().enumerate() {
            let beta = beta as f32;
            r[i] = beta * r[i] - s[i] * h.max(-m[i]).min(m[i]);
            m[i] = (beta * m[i]).max(h.abs() + epsilon);
            v[i] = beta * beta * v[i] + h * h;
            s[i] = (m[i] * start + r[i].max(0.0)) / ((v[i] + tiny).sqrt() + epsilon);
        }
    }
}
