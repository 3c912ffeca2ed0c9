//! The stability of a real optimizer in a training run.
//!
//! For a given minibatch, an inner step is a map s' = F(s) of the state s = (φ, accumulators).
//! Near a point s₀ of the run, s' ≈ F(s₀) + J (s − s₀). If every step were like this one, small
//! perturbations would die out for a spectral radius ρ(J) < 1 and grow for ρ(J) > 1.
//!
//! J is never formed. [`LinearizedStep`] multiplies by Jᵀ exactly, by backpropagation through the
//! optimizer in candle ops and the Hessian of the loss, in f64. Jᵀ has the eigenvalues of J;
//! [`leading_eigenvalues`] finds the largest.
//!
//! In every run some eigenvalues are close to 1: directions in which the loss is flat, and slow
//! averages (a decay of 0.999). ρ is therefore rarely below 0.999.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use lopt_core::{LearnedOptimizer, Params, Purpose, Rng, State, StepContext, Streams, normal};
use lopt_meta::{Adjoint, LinearizedStep};
use lopt_tasks::{Batch, Feed, Network, Split, Step, Task};
use nalgebra::DVector;

use crate::{Effort, Error, Leading, Result, leading_eigenvalues};

/// A linearized inner step.
#[derive(Clone, Debug)]
pub struct Point {
    /// Number of inner steps before this one.
    pub step: u64,
    /// Training loss before the step, on its minibatch.
    pub loss: f32,
    /// The largest eigenvalues of J; [`Leading::radius`] is ρ(J).
    pub leading: Leading,
    /// ‖Δφ‖ of the step.
    pub update_norm: f64,
    /// ‖nominal term‖ / (‖nominal term‖ + ‖blackbox term‖) in Δφ; 0 without a nominal term.
    pub nominal_share: f64,
}

/// Settings of a stability study of one training run.
#[derive(Clone, Debug)]
pub struct Study {
    /// Seed of the initial parameters and the minibatches.
    pub seed: u64,
    /// Inner steps to linearize, ascending. Start at 1 or later: at 0 every accumulator is 0,
    /// where the square root of the second moment has no derivative for parameters without
    /// gradient.
    pub steps: Vec<u64>,
    /// When the computation of the eigenvalues stops.
    pub effort: Effort,
}

impl Study {
    /// Trains `task` and linearizes the steps in `steps`. Calls `on_point` after each of them and
    /// stops if it returns `false`, or if the loss or the gradient is no longer finite.
    ///
    /// # Errors
    /// Returns an error if `steps` is not ascending, and propagates errors of the task, the
    /// optimizer and [`leading_eigenvalues`].
    pub fn run(
        &self,
        task: &Arc<dyn Task>,
        optimizer: &Arc<dyn LearnedOptimizer>,
        on_point: &mut dyn FnMut(&Point) -> bool,
    ) -> Result<Vec<Point>> {
        if !self.steps.is_sorted_by(|a, b| a < b) {
            return Err(Error::Unfit(
                "the steps to linearize must be ascending".to_owned(),
            ));
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
            let proceed = on_point(&point);
            points.push(point);
            if !proceed {
                break;
            }
        }
        Ok(points)
    }

    /// Linearizes the step from (`params`, `state`) on `batch`. `rng` draws the start vector of
    /// [`leading_eigenvalues`].
    ///
    /// # Errors
    /// Propagates errors of the task, the optimizer and [`leading_eigenvalues`].
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
            let context = StepContext::new(state.step, optimizer.learning_rate());
            let context = context.with_loss(loss);
            optimizer.update(&context, &mut state, &mut params, &grads)?;
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

/// J = ∂s'/∂s of an inner step in f64, as a linear map on flat vectors: φ, tensor by tensor, then
/// every slot of each tensor.
///
/// To limit rounding errors, vectors are scaled, x = s/u, which changes no eigenvalue. The units
/// u are 1 for φ; the value plus 1e-8 for slots without negative values, such as accumulators of
/// squares; and the root mean square of the tensor plus 1e-8 for other slots.
pub struct Jacobian<'a> {
    step: LinearizedStep<'a>,
    units: DVector<f64>,
    /// Shapes of parameters and slots.
    params: Vec<Vec<usize>>,
    slots: Vec<Vec<usize>>,
    like: Tensor,
}

impl<'a> Jacobian<'a> {
    /// Linearizes the step from (`params`, `state`) on `batch`.
    ///
    /// # Errors
    /// Returns an error if the task has no parameters, and propagates errors of the task and the
    /// optimizer, for example if the task cannot be computed in f64.
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

    /// The number of entries of s.
    pub fn dimension(&self) -> usize {
        self.units.len()
    }

    /// The units u, \[dimension\].
    pub fn units(&self) -> &DVector<f64> {
        &self.units
    }

    /// Jᵀ·x in the scaled coordinates; x and the result are \[dimension\].
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    ///
    /// # Panics
    /// Panics if x does not have [`Jacobian::dimension`] entries.
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

/// Converts all floating-point tensors that a step reads to f64.
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
