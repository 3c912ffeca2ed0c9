use candle_core::{DType, Tensor};
use lopt_core::{
    Backend, Error, GradSource, Optimizer, Params, Places, Result, State, StepContext,
};
use lopt_cuda::{Number, Plan, Unplanned, layout::Pointers};

use crate::{Device, Kernels, session::Session, slots::SlotLayout};

/// The [`Backend`] of the CUDA kernels on a device. It takes steps of parameters in f32, and in f16 and
/// bf16 if it rounds them ([`Backend::round_to`]).
///
/// The device counts the steps, because a step that is skipped is not known to the host. So the
/// kernels use their own count, which is [`StepContext::step`] unless steps were skipped.
pub struct OnDevice<D: Device> {
    session: Session<D>,
    kernels: Kernels,
    layout: SlotLayout,
    /// Of the parameters.
    shapes: Vec<Vec<usize>>,
    /// Parameters, and the tensors that they are rounded to.
    rounded: Option<[Params; 2]>,
    /// Of the tensors of a [`State`].
    state_device: candle_core::Device,
    /// Whether steps with an invalid gradient are skipped without waiting.
    skips: bool,
    /// The steps taken, or skipped without an error.
    steps: u64,
    /// The steps that were an error.
    refused: u64,
    /// Of the parameters in the current step.
    places: Places,
}

impl<D: Device> OnDevice<D> {
    /// Creates the backend with the optimizer's initial state. Returns `None` if the kernels cannot
    /// index the parameters, which must be contiguous f32 tensors.
    ///
    /// # Errors
    /// Returns an error if the optimizer has a setting out of range, or the device fails.
    pub fn new(
        device: D,
        optimizer: &dyn Optimizer,
        kernels: Kernels,
        params: &Params,
    ) -> Result<Option<Self>> {
        let state = optimizer.init(&on_host(params)?)?;
        let shapes = params.shapes();
        let layout = SlotLayout::new(&state)?;
        let plan = match planned(&kernels, &shapes, |_| Number::F32)? {
            Ok(plan) => plan,
            Err(reason) => {
                tracing::warn!("`{}` runs in candle ops: {reason}", optimizer.kind());
                return Ok(None);
            }
        };
        let theta = kernels.decoded(&kernels.theta)?;
        let session = Session::new(device, plan, &theta, layout.bytes(), |base| {
            layout.places(base, &kernels, &shapes)
        })?;
        let first = params.tensors().first();
        let state_device = first.map_or(candle_core::Device::Cpu, |p| p.device().clone());
        let mut backend = Self {
            session,
            kernels,
            layout,
            shapes,
            rounded: None,
            state_device,
            skips: false,
            steps: 0,
            refused: 0,
            places: Places::default(),
        };
        backend.take(&state, |values| values.iter().any(|x| *x != 0.0))?;
        Ok(Some(backend))
    }

    /// Uploads a state, of its slots those that are `needed`.
    fn take(&mut self, state: &State, needed: impl Fn(&[f32]) -> bool) -> Result<()> {
        let values = self.layout.values(state)?;
        for ((_, at), values) in self.layout.iter().zip(&values) {
            if needed(values) {
                self.session.set_slot(at, values)?;
            }
        }
        self.session.set_taken(state.step)?;
        self.steps = state.step;
        Ok(())
    }

    /// The error of the last step, which the kernels skipped.
    fn bad_gradient(&self, params: &Params) -> Result<Error> {
        let index = self.session.first_invalid(params.len())?;
        let name = index.map_or("?", |index| &params.names()[index]);
        Ok(Error::BadGradient {
            param: name.to_owned(),
            what: "has an entry that is NaN, infinite or above 1e18",
        })
    }
}

/// Returns the plan of the steps of parameters of these shapes and types, or why there is none.
fn planned(
    kernels: &Kernels,
    shapes: &[Vec<usize>],
    number: impl Fn(usize) -> Number,
) -> Result<std::result::Result<Plan, Unplanned>> {
    let specs = shapes.iter().enumerate();
    let specs = specs.map(|(index, dims)| kernels.spec(dims, number(index)));
    let specs: Vec<_> = specs.collect::<Result<_>>()?;
    Ok(Plan::new(&kernels.optimizer(), &specs))
}

/// The type as the kernels know it; `None` for any other.
fn number(dtype: DType) -> Option<Number> {
    match dtype {
        DType::F32 => Some(Number::F32),
        DType::F16 => Some(Number::F16),
        DType::BF16 => Some(Number::BF16),
        _ => None,
    }
}

/// Returns parameters of the same shapes without memory of their own, for [`Optimizer::init`].
pub(crate) fn on_host(params: &Params) -> Result<Params> {
    let zero = Tensor::zeros((), DType::F32, &candle_core::Device::Cpu)?;
    let tensors = params.tensors().iter();
    let zeros = tensors.map(|p| Ok(zero.broadcast_as(p.shape())?));
    params.with_tensors(zeros.collect::<Result<_>>()?)
}

impl<D: Device> Backend for OnDevice<D> {
    fn path(&self) -> &'static str {
        "cuda"
    }

    fn steps(&self) -> u64 {
        self.steps
    }

    fn allow_skipping(&mut self) {
        self.skips = true;
    }

    fn round_to(&mut self, params: &Params, rounded: &Params) -> Result<bool> {
        let both = [params, rounded];
        if both.iter().any(|of| of.shapes() != self.shapes) {
            return Err(Error::other_state());
        }
        let usable = |t: &Tensor| number(t.dtype()).filter(|_| t.is_contiguous());
        let numbers = rounded.tensors().iter().map(usable);
        let Some(numbers) = numbers.collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        let plan = planned(&self.kernels, &self.shapes, |index| numbers[index])?;
        let plan = plan.map_err(|reason| Error::Mismatch(reason.to_string()))?;
        let theta = self.kernels.decoded(&self.kernels.theta)?;
        let device = self.session.device();
        let masters = params.tensors().iter().zip(&numbers);
        let masters = masters.map(|(p, number)| match number {
            Number::F32 => Ok(0),
            _ => device.address_of(p, DType::F32),
        });
        let masters: Vec<_> = masters.collect::<Result<_>>()?;
        self.session.replan(plan, &theta, |base| {
            let (network, mut tensors) = self.layout.places(base, &self.kernels, &self.shapes)?;
            for (slots, master) in tensors.iter_mut().zip(masters) {
                slots.master = master;
            }
            Ok((network, tensors))
        })?;
        self.rounded = Some(both.map(Params::clone));
        self.refused = 0;
        Ok(true)
    }

    fn skipped_steps(&self) -> Result<u64> {
        Ok(self.session.skipped()? - self.refused)
    }

    fn state(&self) -> Result<State> {
        let step = self.session.taken()?;
        self.layout.state(step, |slot, at| {
            let values = self.session.slot(at, slot.elem_count())?;
            let value = Tensor::from_vec(values, slot.shape(), &candle_core::Device::Cpu)?;
            Ok(value.to_device(&self.state_device)?)
        })
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        self.take(&state, |_| true)
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let decoded = self.kernels.decoded(values)?;
        self.session.set_theta(&decoded)?;
        self.kernels.theta = values.to_vec();
        Ok(())
    }

    /// Allocates only if a gradient is not contiguous or shares memory with a parameter.
    fn step(
        &mut self,
        _: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        context.check()?;
        let shapes = params.tensors().iter().map(Tensor::dims);
        if !shapes.eq(self.shapes.iter().map(Vec::as_slice)) {
            return Err(Error::other_state());
        }
        let params = match &self.rounded {
            None => params,
            Some([same, rounded]) => {
                let ids = params.tensors().iter().map(Tensor::id);
                if !ids.eq(same.tensors().iter().map(Tensor::id)) {
                    return Err(Error::other_state());
                }
                rounded
            }
        };
        grads.check_kinds(params)?;
        // Kept until all kernels are launched; memory is freed in the order of the launches.
        let mut gradients = Vec::with_capacity(params.len());
        self.places.set(params);
        let mut pointers = vec![Pointers::default(); params.len()];
        let device = self.session.device();
        for (index, (p, at)) in params.tensors().iter().zip(&mut pointers).enumerate() {
            if let Some(g) = grads.readable(index, p, &self.places)? {
                let dtype = match &self.rounded {
                    None => DType::F32,
                    Some(_) => p.dtype(),
                };
                at.p = device.address_of(p, dtype)?;
                at.g = device.address_of(&g, dtype)?;
                gradients.push(g);
            }
        }
        self.session.step(context.learning_rate as f32, &pointers)?;
        drop(gradients);
        if !self.skips && self.session.was_skipped()? {
            self.refused += 1;
            return Err(self.bad_gradient(params)?);
        }
        self.steps += 1;
        Ok(None)
    }
}
