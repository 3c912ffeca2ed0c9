//! The online scale of a fused update.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lopt_core::Workers;
use lopt_kernels::{Gradient, Isa, Target, UpdateSum, inner_products};

use crate::{EPSILON, GRADIENT_DECAY, LARGEST_SLOPE, LARGEST_SQUARE, OnlineScale, TINY};

/// The online scale of a [`FusedUpdate`](lopt_core::FusedUpdate), or none.
#[derive(Debug)]
pub struct FusedScale {
    isa: Isa,
    workers: Workers,
    config: Option<OnlineScale>,
    /// The factor of the gradients in this step.
    gradient_factor: f32,
    network: Moved,
    /// Of each tensor, which one thread at a time observes.
    tensors: Vec<Mutex<(Seen, Moved)>>,
}

/// Sums over the gradients of a tensor in this step.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// ⟨Δ, ∇⟩
    slope: f64,
    /// ⟨∇, ∇⟩
    square: f64,
    /// The number of elements.
    count: usize,
}

/// S′ − S and S′ of one step.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    change: f32,
    scale: f32,
}

impl FusedScale {
    /// Creates the online scale of one network with this number of parameter tensors.
    pub fn new(isa: Isa, config: Option<&OnlineScale>, parameters: usize) -> Self {
        Self {
            isa,
            workers: Workers::ONE,
            config: config.cloned(),
            gradient_factor: 1.0,
            network: Moved::default(),
            tensors: (0..parameters).map(|_| Mutex::default()).collect(),
        }
    }

    /// Uses these threads for large tensors.
    pub fn use_workers(&mut self, workers: Workers) {
        self.workers = workers;
    }

    /// Reads the gradient of one tensor before the step begins, and updates the tensor's learners.
    pub fn observe(&self, index: usize, g: &[f32], slots: &mut [Vec<f32>]) {
        if g.is_empty() {
            return;
        }
        if let (Some(config), Some([learners, sum])) = (&self.config, slots.last_chunk_mut()) {
            let (slope, square) = inner_products(
                self.isa,
                &|count, job| self.workers.each(count, job),
                sum,
                g,
            );
            let count = g.len();
            let seen = Seen {
                slope,
                square,
                count,
            };
            *self.tensor(index) = (seen, config.advance(slope, learners));
        }
    }

    fn tensor(&self, index: usize) -> MutexGuard<'_, (Seen, Moved)> {
        let tensor = self.tensors[index].lock();
        tensor.unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the scale's slots of the network, which are the last ones of `network`.
    pub fn begin_step(&mut self, network: &mut [Vec<f32>]) {
        let Some(config) = &self.config else {
            return;
        };
        let mut seen = Seen::default();
        for tensor in &mut self.tensors {
            let tensor = tensor.get_mut().unwrap_or_else(PoisonError::into_inner);
            let of_tensor = std::mem::take(&mut tensor.0);
            seen.slope += of_tensor.slope;
            seen.square += of_tensor.square;
            seen.count += of_tensor.count;
        }
        if let Some(learners) = network.last_mut() {
            self.network = config.advance(seen.slope, learners);
        }
        if let (Some(rms), Some([gradient, _])) = (config.gradient_rms, network.last_chunk_mut())
            && seen.count > 0
        {
            let mean = seen.square / seen.count as f64;
            self.gradient_factor = gradient_factor(rms, mean.min(LARGEST_SQUARE), gradient);
        }
    }

    /// Returns the gradient as the optimizer reads it.
    pub fn gradient<'a>(&self, values: &'a [f32]) -> Gradient<'a> {
        let factor = self.gradient_factor;
        Gradient { values, factor }
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
        let (network, (_, tensor)) = (self.network, *self.tensor(index));
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

/// Updates q and w with the mean square of a gradient; returns ρ/R.
fn gradient_factor(rms: f64, mean: f64, q_and_w: &mut [f32]) -> f32 {
    for (average, new) in q_and_w.iter_mut().zip([mean, 1.0]) {
        let old = f64::from(*average);
        *average = (GRADIENT_DECAY * old + (1.0 - GRADIENT_DECAY) * new) as f32;
    }
    let ratio = f64::from(q_and_w[0]) / f64::from(q_and_w[1]);
    (rms / (ratio + TINY).sqrt()) as f32
}

impl OnlineScale {
    /// Updates the learners, \[4, K\], with the slope h.
    fn advance(&self, h: f64, learners: &mut [f32]) -> Moved {
        let h = h.clamp(-LARGEST_SLOPE, LARGEST_SLOPE) as f32;
        let (m, rest) = learners.split_at_mut(self.learners);
        let (v, rest) = rest.split_at_mut(self.learners);
        let (r, s) = rest.split_at_mut(self.learners);
        let old: f32 = s.iter().sum();
        let (epsilon, tiny) = (EPSILON as f32, TINY as f32);
        let start = (self.initial / self.learners as f64) as f32;
        for (i, beta) in self.decays().enumerate() {
            let beta = beta as f32;
            let bound = match m[i] > epsilon {
                true => self.slope_limit as f32 * m[i],
                false => f32::INFINITY,
            };
            let h = h.max(-bound).min(bound);
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
