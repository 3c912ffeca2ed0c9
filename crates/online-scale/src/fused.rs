//! The online scale of a fused update.

use lopt_kernels::{Isa, Target, UpdateSum, inner_product};

use crate::{EPSILON, OnlineScale, TINY};

/// The online scale of a [`FusedUpdate`](lopt_core::FusedUpdate), or none.
#[derive(Clone, Debug)]
pub struct FusedScale {
    isa: Isa,
    config: Option<OnlineScale>,
    /// ⟨Δ, ∇⟩ of the tensors seen so far in this step.
    slope: f64,
    network: Moved,
    /// Of each tensor.
    tensors: Vec<Moved>,
}

/// S′ − S and S′ of one step.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    change: f32,
    scale: f32,
}

impl FusedScale {
    /// Creates it for one network with this number of parameters.
    pub fn new(isa: Isa, config: Option<&OnlineScale>, parameters: usize) -> Self {
        Self {
            isa,
            config: config.cloned(),
            slope: 0.0,
            network: Moved::default(),
            tensors: vec![Moved::default(); parameters],
        }
    }

    /// Reads the gradient of one tensor before the step begins, and updates the tensor's learners.
    pub fn observe(&mut self, index: usize, g: &[f32], slots: &mut [Vec<f32>]) {
        if g.is_empty() {
            return;
        }
        if let (Some(config), Some([learners, sum])) = (&self.config, slots.last_chunk_mut()) {
            let slope = inner_product(self.isa, sum, g);
            self.slope += slope;
            self.tensors[index] = config.advance(slope as f32, learners);
        }
    }

    /// Updates the network's learners, whose slot is the last of the network.
    pub fn begin_step(&mut self, network: &mut [Vec<f32>]) {
        let slope = std::mem::take(&mut self.slope);
        if let (Some(config), Some(learners)) = (&self.config, network.last_mut()) {
            self.network = config.advance(slope as f32, learners);
        }
    }

    /// Splits the slots of a tensor into those of the scale, which become part of the target, and
    /// those of the optimizer itself.
    pub fn target<'a>(
        &self,
        index: usize,
        p: &'a mut [f32],
        slots: &'a mut [Vec<f32>],
    ) -> (Target<'a>, &'a mut [Vec<f32>]) {
        let Some(config) = &self.config else {
            return (Target::parameters(p), slots);
        };
        let Some((slots, [_, sum])) = slots.split_last_chunk_mut() else {
            return (Target::parameters(p), &mut []);
        };
        let (network, tensor) = (self.network, self.tensors[index]);
        let w = config.tensor_weight as f32;
        let mean = |network, tensor| (1.0 - w) * network + w * tensor;
        let sum = Some(UpdateSum {
            sum,
            change: mean(network.change, tensor.change),
            scale: mean(network.scale, tensor.scale),
        });
        (Target { p, sum }, slots)
    }
}

impl OnlineScale {
    /// Updates the learners, \[4, K\], with the slope h.
    fn advance(&self, h: f32, learners: &mut [f32]) -> Moved {
        let (m, rest) = learners.split_at_mut(self.learners);
        let (v, rest) = rest.split_at_mut(self.learners);
        let (r, s) = rest.split_at_mut(self.learners);
        let old: f32 = s.iter().sum();
        let (epsilon, tiny) = (EPSILON as f32, TINY as f32);
        let start = (self.initial / self.learners as f64) as f32;
        for (i, beta) in self.decays().enumerate() {
            let beta = beta as f32;
            r[i] = beta * r[i] - s[i] * h.max(-m[i]).min(m[i]);
            m[i] = (beta * m[i]).max(h.abs() + epsilon);
            v[i] = beta * beta * v[i] + h * h;
            s[i] = (m[i] * start + r[i].max(0.0)) / ((v[i] + tiny).sqrt() + epsilon);
        }
        let scale = s.iter().sum();
        Moved {
            change: scale - old,
            scale,
        }
    }
}
