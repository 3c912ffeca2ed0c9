//! Optimizer updates on f32 slices: the fast path of training on the CPU.

use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Tensor};

use crate::{
    Backend, Error, GradSource, Optimizer, Params, Places, Result, Slot, State, StepContext,
    Workers,
    params::{LARGE, check_values, check_values_on, with_values},
};

/// The update of one optimizer on f32 slices, with decoded θ.
///
/// It computes the same function as [`Optimizer::update`] up to rounding. A step calls
/// [`FusedUpdate::observe`] for each tensor with a gradient, [`FusedUpdate::begin_step`] once, and
/// [`FusedUpdate::update`] for each of these tensors. Several threads may observe or update different
/// tensors at the same time.
pub trait FusedUpdate: Send + Sync {
    /// The instruction set of its kernels: "avx512", "avx2" or "portable".
    fn kernel(&self) -> &'static str;

    /// From now on, divides the work on a tensor of 2²⁰ elements or more among these threads, and returns
    /// them. By default, returns the calling thread alone, as an update should that memory bandwidth
    /// limits. Results do not depend on the number of threads.
    fn use_workers(&mut self, _: Workers) -> Workers {
        Workers::ONE
    }

    /// Reads the gradient of parameter `index` before the step begins, for values that depend on
    /// the gradients of all tensors. All gradients have been checked, so the step will be taken.
    fn observe(&self, _index: usize, _g: &[f32], _slots: &mut [Vec<f32>]) {}

    /// Prepares the values that all tensors of a step share. `network` holds the slots of the whole
    /// network in the order of [`Optimizer::init`].
    fn begin_step(&mut self, context: &StepContext, network: &mut [Vec<f32>]);

    /// Updates the values `p` and the slots of parameter `index` with its gradient `g`. The slots
    /// are in the order of [`Optimizer::init`]; all slices are row-major.
    fn update(&self, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]);

    /// Replaces the values of θ.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if there are more or fewer values than meta-parameters.
    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let given = values.len();
        let problem = format!(
            "{given} values of θ for a fused update that has none; an optimizer with θ must \
             implement FusedUpdate::set_theta"
        );
        Err(Error::Mismatch(problem))
    }
}

/// The name and shape of each slot.
type SlotLayout = Vec<(&'static str, Vec<usize>)>;

/// The values of the slots of one parameter.
type Slots = Vec<Vec<f32>>;

/// The [`Backend`] of the CPU kernels: an optimizer's fused update and its slots in f32 memory.
pub struct Fused {
    update: Box<dyn FusedUpdate>,
    workers: Workers,
    step: u64,
    /// The number of elements of each parameter.
    sizes: Vec<usize>,
    network_layout: SlotLayout,
    /// The slots of the whole network.
    network: Vec<Vec<f32>>,
    layout: Vec<SlotLayout>,
    /// The slots of each parameter, each locked by the thread that updates it.
    slots: Vec<Mutex<Slots>>,
    /// Of the parameters in the current step.
    places: Places,
    /// The gradients of the current step; empty between steps.
    grads: Vec<Option<Tensor>>,
}

impl std::fmt::Debug for Fused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fused")
            .field("kernel", &self.update.kernel())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

fn layout_of(slots: &[Slot]) -> SlotLayout {
    let layout = |slot: &Slot| (slot.name, slot.value.dims().to_vec());
    slots.iter().map(layout).collect()
}

fn values_of(slots: &[Slot]) -> Result<Vec<Vec<f32>>> {
    let values = |slot: &Slot| Ok(slot.value.flatten_all()?.to_vec1::<f32>()?);
    slots.iter().map(values).collect()
}

fn slots_of(layout: &SlotLayout, values: &[Vec<f32>]) -> Result<Vec<Slot>> {
    let slot = |((name, dims), values): (&(&'static str, Vec<usize>), &Vec<f32>)| {
        let value = Tensor::from_slice(values, dims.as_slice(), &Device::Cpu)?;
        Ok(Slot { name, value })
    };
    layout.iter().zip(values).map(slot).collect()
}

impl Fused {
    /// Creates the backend with the optimizer's initial state. Returns `None` if the optimizer has
    /// no fused update for these parameters, or they are not contiguous f32 tensors on the CPU.
    ///
    /// # Errors
    /// Returns an error if the optimizer's state cannot be allocated.
    pub fn new(optimizer: &dyn Optimizer, params: &Params) -> Result<Option<Self>> {
        let fits = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && t.is_contiguous();
        if !params.tensors().iter().all(fits) {
            return Ok(None);
        }
        let Some(update) = optimizer.fused(&params.shapes()) else {
            return Ok(None);
        };
        let state = optimizer.init(params)?;
        let mut fused = Self {
            update,
            workers: Workers::ONE,
            step: 0,
            sizes: params.tensors().iter().map(Tensor::elem_count).collect(),
            network_layout: layout_of(&state.network),
            network: vec![],
            layout: state.slots.iter().map(|slots| layout_of(slots)).collect(),
            slots: vec![],
            places: Places::default(),
            grads: Vec::with_capacity(params.len()),
        };
        fused.take(&state)?;
        Ok(Some(fused))
    }

    fn take(&mut self, state: &State) -> Result<()> {
        let slots = |slots: &Vec<Slot>| Ok(Mutex::new(values_of(slots)?));
        let slots: Result<_> = state.slots.iter().map(slots).collect();
        (self.network, self.slots) = (values_of(&state.network)?, slots?);
        self.step = state.step;
        Ok(())
    }

    /// Takes one step of parameters that are concatenated in one slice; `ends` holds the index
    /// after each of them.
    ///
    /// # Errors
    /// Returns [`Error::BadGradient`] with one of `names` if a gradient is invalid; nothing changes
    /// then.
    pub fn step_flat(
        &mut self,
        context: &StepContext,
        names: &[String],
        ends: &[usize],
        params: &mut [f32],
        grads: &[f32],
    ) -> Result<()> {
        context.check()?;
        let starts = || std::iter::once(0).chain(ends.iter().copied());
        for ((start, &end), name) in starts().zip(ends).zip(names) {
            check_values(name, &grads[start..end])?;
        }
        for (index, (start, &end)) in starts().zip(ends).enumerate() {
            let (g, slots) = (&grads[start..end], unlocked(&mut self.slots[index]));
            self.update.observe(index, g, slots);
        }
        self.update.begin_step(context, &mut self.network);
        for (index, (start, &end)) in starts().zip(ends).enumerate() {
            let (p, g) = (&mut params[start..end], &grads[start..end]);
            let slots = unlocked(&mut self.slots[index]);
            self.update.update(index, p, g, slots);
        }
        self.step += 1;
        Ok(())
    }

    /// Takes over the gradients of a step.
    fn hold(&mut self, params: &Params, grads: &dyn GradSource) -> Result<()> {
        self.places.set(params);
        for (index, p) in params.tensors().iter().enumerate() {
            self.grads.push(grads.readable(index, p, &self.places)?);
        }
        Ok(())
    }

    /// The threads that update several tensors below [`LARGE`] at the same time: one if they have too
    /// little to do, or if parameters share memory, which one thread at a time can change.
    fn workers_for_small(&self) -> Workers {
        /// Fewer elements are updated before other threads would begin.
        const ENOUGH: usize = 1 << 16;
        let small = self.sizes.iter().filter(|size| **size < LARGE);
        let enough = || small.sum::<usize>() >= ENOUGH;
        match self.workers.threads() > 1 && enough() && self.places.are_distinct() {
            true => self.workers,
            false => Workers::ONE,
        }
    }

    /// Checks the values of the gradients, calls [`FusedUpdate::observe`] for each of them, begins the
    /// step and updates every parameter that has one.
    fn update_all(&mut self, context: &StepContext, params: &Params) -> Result<()> {
        let workers = self.workers_for_small();
        let (grads, slots) = (&self.grads, &self.slots);
        let is_large = |index: &usize| self.sizes[*index] >= LARGE;
        // All threads divide one large tensor after another, each of which stays in their cache.
        let with_gradient = |job: &(dyn Fn(usize, &[f32]) -> Result<()> + Sync)| {
            // Reading locks the gradient while the job runs.
            let job = |index: usize| match &grads[index] {
                Some(g) => read_values(g, |g| job(index, g))?,
                None => Ok(()),
            };
            (0..grads.len()).filter(is_large).try_for_each(job)?;
            workers.try_each(grads.len(), |index| match is_large(&index) {
                true => Ok(()),
                false => job(index),
            })
        };
        with_gradient(&|index, g| check_values_on(self.workers, &params.names()[index], g))?;
        let update = &self.update;
        with_gradient(&|index, g| {
            update.observe(index, g, &mut locked(&slots[index]));
            Ok(())
        })?;
        self.update.begin_step(context, &mut self.network);
        let update = &self.update;
        with_gradient(&|index, g| {
            let p = &params.tensors()[index];
            let slots = &mut locked(&slots[index]);
            in_place(p, |p| update.update(index, p, g, slots))
        })
    }
}

/// Nobody else has the slots of a tensor, unless an update panicked, and that is passed on.
fn locked(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`locked`], without waiting.
fn unlocked(slots: &mut Mutex<Slots>) -> &mut Slots {
    slots.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl Backend for Fused {
    fn path(&self) -> &'static str {
        self.update.kernel()
    }

    fn use_workers(&mut self, workers: Workers) {
        self.workers = self.update.use_workers(workers);
    }

    fn steps(&self) -> u64 {
        self.step
    }

    fn state(&self) -> Result<State> {
        let of_parameters = self.layout.iter().zip(&self.slots);
        let slots = of_parameters.map(|(layout, values)| slots_of(layout, &locked(values)));
        Ok(State {
            step: self.step,
            network: slots_of(&self.network_layout, &self.network)?,
            slots: slots.collect::<Result<_>>()?,
        })
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        let layouts = std::iter::once(&self.network_layout).chain(&self.layout);
        let shapes: Vec<Vec<&[usize]>> = layouts
            .map(|slots| slots.iter().map(|(_, dims)| &**dims).collect())
            .collect();
        if shapes != state.shapes() {
            return Err(Error::other_state());
        }
        self.take(&state)
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        self.update.set_theta(values)
    }

    /// On one thread, allocates only if a gradient is not contiguous or shares memory with a parameter.
    fn step(
        &mut self,
        _: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        context.check()?;
        let sizes = params.tensors().iter().map(Tensor::elem_count);
        if !sizes.eq(self.sizes.iter().copied()) {
            return Err(Error::other_state());
        }
        grads.check_kinds(params)?;
        let held = self.hold(params, grads);
        let updated = held.and_then(|()| self.update_all(context, params));
        self.grads.clear();
        updated?;
        self.step += 1;
        Ok(None)
    }
}

/// Calls `read` with the values of a contiguous f32 tensor on the CPU.
fn read_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    with_values(tensor, read).ok_or_else(|| {
        let problem = "a fused update needs contiguous f32 gradients on the CPU";
        Error::Mismatch(problem.to_owned())
    })
}

/// Changes a contiguous f32 tensor on the CPU in place.
fn in_place(tensor: &Tensor, change: impl FnOnce(&mut [f32])) -> Result<()> {
    Ok(tensor.inplace_op1(&InPlace(RefCell::new(Some(change))))?)
}

struct InPlace<F>(RefCell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "fused optimizer update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let offsets = layout.contiguous_offsets();
        let (CpuStorage::F32(values), Some((start, end))) = (storage, offsets) else {
            candle_core::bail!("a fused update needs contiguous f32 parameters");
        };
        if let Some(change) = self.0.borrow_mut().take() {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}
