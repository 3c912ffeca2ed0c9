//! The stability of a real optimizer in a real training run.
//!
//! An inner step is a map s' = F(s) of everything that it changes, s = (φ, accumulators), for a
//! given minibatch. Around a point of the run it is s' ≈ F(s₀) + J (s − s₀), and the spectral
//! radius ρ(J) tells whether small differences die out (below 1) or grow (above) if steps went on
//! like this one.
//!
//! J is never formed: [`LinearizedStep`] multiplies by Jᵀ, exactly, by backpropagation through the
//! optimizer in candle ops and the Hessian of the loss, all in f64. Jᵀ has J's eigenvalues;
//! [`leading_eigenvalues`] finds the largest of them.
//!
//! Some eigenvalues are 1 or nearly so in every run: directions in which the loss is flat, and
//! slow averages (a decay of 0.999). ρ is therefore seldom below 0.999.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use lopt_core::{LearnedOptimizer, Params, Purpose, Rng, State, Streams, normal};
use lopt_meta::{Adjoint, LinearizedStep};
use lopt_tasks::{Batch, Feed, Network, Split, Step, Task};
use nalgebra::DVector;

use crate::{Effort, Error, Leading, Result, leading_eigenvalues};

/// A point of a run and what the step from there does.
#[derive(Clone, Debug)]
pub struct Point {
    /// Inner steps before it.
    pub step: u64,
    /// The training loss there, on the minibatch of the step.
    pub loss: f32,
    /// The largest eigenvalues of J; [`Leading::radius`] is ρ(J).
    pub leading: Leading,
    /// ‖Δφ‖.
    pub update_norm: f64,
    /// Of ‖nominal term‖ + ‖blackbox term‖ in Δφ, the share of the first; 0 without one.
    pub nominal_share: f64,
}

/// Where to linearise.
#[derive(Clone, Debug)]
pub struct Study {
    /// Seed of start and minibatches.
    pub seed: u64,
    /// Points, in inner steps, ascending. At 0 every accumulator is 0, where the square root of
    /// the second moment has no derivative for parameters without gradient: begin at 1.
    pub steps: Vec<u64>,
    /// Of the eigenvalues.
    pub effort: Effort,
}

impl Study {
    /// Trains `task` and linearises on the way. `on_point` is called after each point and says
    /// whether to go on. A run whose loss or gradient is no longer finite ends there.
    ///
    /// # Errors
    /// Those of task and optimizer; if `steps` do not ascend.
    pub fn run(
        &self,
        task: &Arc<dyn Task>,
        optimizer: &Arc<dyn LearnedOptimizer>,
        on_point: &mut dyn FnMut(&Point) -> bool,
    ) -> Result<Vec<Point>> {
        if !self.steps.is_sorted_by(|a, b| a < b) {
            return Err(Error::Unfit("points must ascend".to_owned()));
        }
        let stream = |what, t| Streams::new(self.seed).stream(Purpose::Stability, what, 0, t);
        let params = task.init(&mut stream(0, 0))?;
        let mut network = Network::start(task.clone(), params, optimizer.clone())?;
        let mut feed = Feed::default();
        let mut points = vec![];
        let mut t = 0;
        for &at in &self.steps {
            while t < at {
                network.draw(Split::Train, &mut stream(1, t), &mut feed)?;
                let Step { loss, refused } = network.step(&mut feed)?;
                if refused || !loss.is_finite() {
                    return Ok(points);
                }
                t += 1;
            }
            let (params, state) = (network.params()?, network.state()?);
            let batch = task.batch(Split::Train, &mut stream(1, t))?;
            let mut rng = stream(2, t);
            let point = self.point(&**task, &**optimizer, &params, &state, batch, &mut rng)?;
            let go_on = on_point(&point);
            points.push(point);
            if !go_on {
                break;
            }
        }
        Ok(points)
    }

    /// The step from (`params`, `state`) on `batch`.
    ///
    /// # Errors
    /// Those of task and optimizer.
    pub fn point(
        &self,
        task: &dyn Task,
        optimizer: &dyn LearnedOptimizer,
        params: &Params,
        state: &State,
        batch: Batch,
        rng: &mut Rng,
    ) -> Result<Point> {
        let (loss, grads) = task.loss_and_grad(params, &batch)?;
        let after = |optimizer: &dyn LearnedOptimizer| -> Result<Vec<f64>> {
            let (mut params, mut state) = (params.clone(), state.clone());
            optimizer.step(&mut state, &mut params, &grads)?;
            flat(params.tensors())
        };
        let before = flat(params.tensors())?;
        let whole = after(optimizer)?;
        let distance = |a: &[f64], b: &[f64]| {
            let squares = a.iter().zip(b).map(|(a, b)| (a - b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let nominal_share = match optimizer.nominal_only()? {
            None => 0.0,
            Some(nominal) => {
                let by_nominal = after(&*nominal)?;
                let nominal = distance(&by_nominal, &before);
                nominal / (nominal + distance(&whole, &by_nominal)).max(f64::MIN_POSITIVE)
            }
        };
        let jacobian = Jacobian::new(task, optimizer, params, state, &batch)?;
        let start = DVector::from_fn(jacobian.dimension(), |_, _| f64::from(normal(rng)));
        let leading = leading_eigenvalues(start, self.effort, |x| jacobian.transposed_product(x))?;
        Ok(Point {
            step: state.step,
            loss,
            leading,
            update_norm: distance(&whole, &before),
            nominal_share,
        })
    }
}

/// J of an inner step in f64, as a linear map on flat vectors: φ, tensor after tensor, then every
/// slot of each tensor.
///
/// In units in which rounding does no harm, x = s/u: 1 for φ; for accumulators of squares, none of
/// which is negative, each one's own size (plus 1e-8); for others the root mean square of the
/// tensor (plus 1e-8). Units change no eigenvalue.
pub struct Jacobian<'a> {
    step: LinearizedStep<'a>,
    units: DVector<f64>,
    /// Shapes of parameters and slots.
    params: Vec<Vec<usize>>,
    slots: Vec<Vec<usize>>,
    like: Tensor,
}

impl<'a> Jacobian<'a> {
    /// Of the step from (`params`, `state`) on `batch`.
    ///
    /// # Errors
    /// Those of task and optimizer, for example if the task cannot be computed in f64.
    pub fn new(
        task: &'a dyn Task,
        optimizer: &dyn LearnedOptimizer,
        params: &Params,
        state: &State,
        batch: &Batch,
    ) -> Result<Self> {
        let Some(like) = params.tensors().first().cloned() else {
            return Err(Error::Unfit("the task has no parameters".to_owned()));
        };
        let (params, state, batch) = in_f64(params, state, batch)?;
        let mut units = vec![1.0; params.numel()];
        for slot in state.all_slots() {
            units.extend(units_of(&flat(std::slice::from_ref(&slot.value))?));
        }
        let shapes = state.all_slots().map(|slot| slot.value.dims().to_vec());
        Ok(Self {
            units: DVector::from_vec(units),
            params: params.shapes(),
            slots: shapes.collect(),
            like,
            step: LinearizedStep::new(task, optimizer, &params, &state, batch)?,
        })
    }

    /// Numbers in s.
    pub fn dimension(&self) -> usize {
        self.units.len()
    }

    /// u.
    pub fn units(&self) -> &DVector<f64> {
        &self.units
    }

    /// Jᵀ·x, in these units.
    ///
    /// # Errors
    /// Those of candle.
    pub fn transposed_product(&self, x: &DVector<f64>) -> Result<DVector<f64>> {
        let x = x.component_div(&self.units);
        let mut rest = x.as_slice();
        let mut next = |shape: &Vec<usize>| -> Result<Tensor> {
            let (values, after) = rest.split_at(shape.iter().product());
            rest = after;
            Ok(Tensor::from_slice(
                values,
                shape.as_slice(),
                self.like.device(),
            )?)
        };
        let params = self.params.iter().map(&mut next).collect::<Result<_>>()?;
        let slots = self.slots.iter().map(&mut next).collect::<Result<_>>()?;
        let product = self.step.transposed_product(&Adjoint { params, slots })?;
        let mut values = flat(&product.params)?;
        values.extend(flat(&product.slots)?);
        Ok(DVector::from_vec(values).component_mul(&self.units))
    }
}

fn units_of(values: &[f64]) -> Vec<f64> {
    const FLOOR: f64 = 1e-8;
    if values.iter().all(|&v| v >= 0.0) {
        return values.iter().map(|v| v + FLOOR).collect();
    }
    let squares: f64 = values.iter().map(|v| v * v).sum();
    vec![(squares / values.len() as f64).sqrt() + FLOOR; values.len()]
}

/// Everything that a step needs, in f64.
fn in_f64(params: &Params, state: &State, batch: &Batch) -> Result<(Params, State, Batch)> {
    let double = |t: &Tensor| match t.dtype().is_float() {
        true => t.to_dtype(DType::F64),
        false => Ok(t.clone()),
    };
    let all = |tensors: &[Tensor]| -> candle_core::Result<Vec<_>> {
        tensors.iter().map(double).collect()
    };
    let mut state = state.clone();
    for slot in state.all_slots_mut() {
        slot.value = double(&slot.value)?;
    }
    let params = params.with_tensors(all(params.tensors())?)?;
    Ok((params, state, all(batch)?))
}

fn flat(tensors: &[Tensor]) -> Result<Vec<f64>> {
    let mut values = vec![];
    for tensor in tensors {
        values.extend(
            tensor
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()?,
        );
    }
    Ok(values)
}
