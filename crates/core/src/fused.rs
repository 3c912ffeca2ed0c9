//! Optimizers on plain f32 memory: the fast path of CPU training.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor};

use crate::{Error, Grads, Optimizer, Params, Result, Slot, State, params::check_values};

/// The update of one optimizer on slices of f32, θ and step size prepared.
///
/// The same function as [`Optimizer::update`], to within rounding.
pub trait FusedUpdate: Send {
    /// What computes it: "avx512", "avx2", "portable".
    fn kernel(&self) -> &'static str;

    /// Step number `step` (from 0) of parameter `index`: its values, its gradient, and
    /// its slots as [`Optimizer::init`] orders them, all row-major.
    fn update(&mut self, step: u64, index: usize, p: &mut [f32], g: &[f32], slots: &mut [Vec<f32>]);

    /// As [`Optimizer::set_learning_rate`].
    fn set_learning_rate(&mut self, learning_rate: f64);
}

/// An optimizer's fused update with its state, for parameters of certain shapes.
pub struct Fused {
    update: Box<dyn FusedUpdate>,
    /// Name and shape of each slot of each parameter.
    layout: Vec<Vec<(&'static str, Vec<usize>)>>,
    step: u64,
    /// The slots of each parameter.
    slots: Vec<Vec<Vec<f32>>>,
}

impl std::fmt::Debug for Fused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fused")
            .field("kernel", &self.update.kernel())
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl Fused {
    /// `None` if the optimizer has no fused update, or not for these parameters: they
    /// must be contiguous f32 on the CPU.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(optimizer: &dyn Optimizer, params: &Params) -> Result<Option<Self>> {
        let fits = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && t.is_contiguous();
        if !params.tensors().iter().all(fits) {
            return Ok(None);
        }
        let Some(update) = optimizer.fused(&params.shapes()) else {
            return Ok(None);
        };
        let state = optimizer.init(params)?;
        let layout = |slots: &Vec<Slot>| {
            let layout = slots.iter().map(|s| (s.name, s.value.dims().to_vec()));
            layout.collect()
        };
        let mut fused = Self {
            update,
            slots: vec![],
            step: 0,
            layout: state.slots.iter().map(layout).collect(),
        };
        fused.set_state(&state)?;
        Ok(Some(fused))
    }

    /// What computes it: "avx512", "avx2", "portable".
    pub fn kernel(&self) -> &'static str {
        self.update.kernel()
    }

    /// Goes on with another θ or step size of the same kind of optimizer.
    ///
    /// # Errors
    /// If that optimizer has no fused update.
    pub fn set_optimizer(
        &mut self,
        optimizer: &dyn Optimizer,
        params: &[Vec<usize>],
    ) -> Result<()> {
        self.update = optimizer.fused(params).ok_or_else(|| {
            Error::Mismatch(format!("`{}` has no fused update here", optimizer.kind()))
        })?;
        Ok(())
    }

    /// As [`Optimizer::set_learning_rate`].
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.update.set_learning_rate(learning_rate);
    }

    /// The state as tensors.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self) -> Result<State> {
        let slot = |((name, dims), values): (&(&'static str, Vec<usize>), &Vec<f32>)| {
            let value = Tensor::from_slice(values, dims.as_slice(), &Device::Cpu)?;
            Ok(Slot { name, value })
        };
        let of_param = |(layout, values): (&Vec<_>, &Vec<_>)| -> Result<Vec<Slot>> {
            layout.iter().zip(values).map(slot).collect()
        };
        let slots = self.layout.iter().zip(&self.slots).map(of_param);
        Ok(State {
            step: self.step,
            slots: slots.collect::<Result<_>>()?,
        })
    }

    /// Goes on from a state of the same optimizer and shapes.
    ///
    /// # Errors
    /// If it does not fit; the state is then as before.
    pub fn set_state(&mut self, state: &State) -> Result<()> {
        let of_param = |layout: &Vec<(_, Vec<usize>)>| -> Vec<Vec<usize>> {
            layout.iter().map(|(_, dims)| dims.clone()).collect()
        };
        let shapes: Vec<_> = self.layout.iter().map(of_param).collect();
        if state.shapes() != shapes {
            return Err(State::of_others());
        }
        let values = |slot: &Slot| Ok(slot.value.flatten_all()?.to_vec1::<f32>()?);
        let of_param = |slots: &Vec<Slot>| slots.iter().map(values).collect::<Result<_>>();
        self.slots = state.slots.iter().map(of_param).collect::<Result<_>>()?;
        self.step = state.step;
        Ok(())
    }

    /// One step of parameters that lie in one slice, one after the other; `ends` are the
    /// indices after each.
    ///
    /// # Errors
    /// [`Error::BadGradient`] with one of `names`; nothing is then changed.
    pub fn step_flat(
        &mut self,
        names: &[String],
        ends: &[usize],
        params: &mut [f32],
        grads: &[f32],
    ) -> Result<()> {
        let starts = || std::iter::once(0).chain(ends.iter().copied());
        for ((start, &end), name) in starts().zip(ends).zip(names) {
            check_values(name, &grads[start..end])?;
        }
        for (index, (start, &end)) in starts().zip(ends).enumerate() {
            let (p, g) = (&mut params[start..end], &grads[start..end]);
            self.update
                .update(self.step, index, p, g, &mut self.slots[index]);
        }
        self.step += 1;
        Ok(())
    }

    /// One step of parameters, in place: all that share their memory change with them.
    ///
    /// # Errors
    /// [`Error::BadGradient`] or [`Error::Mismatch`]; nothing is then changed.
    pub fn step_params(&mut self, params: &Params, grads: &Grads) -> Result<()> {
        grads.check(params)?;
        let (tensors, grads) = (params.tensors(), grads.tensors());
        let grad = |index: usize| grads[index].as_ref();
        self.step_in_place(params.names(), |index| &tensors[index], grad)
    }

    /// One step of tensors, in place: all that share their memory change with them.
    /// Allocates nothing after the first step, unless a gradient is not contiguous.
    ///
    /// # Errors
    /// [`Error::BadGradient`] or [`Error::Mismatch`] with one of `names`; nothing is then
    /// changed.
    pub(crate) fn step_in_place<'a>(
        &mut self,
        names: &[String],
        param: impl Fn(usize) -> &'a Tensor,
        grad: impl Fn(usize) -> Option<&'a Tensor>,
    ) -> Result<()> {
        for (index, name) in names.iter().enumerate() {
            if let Some(g) = grad(index) {
                crate::params::check_gradient(name, param(index), g)?;
            }
        }
        for index in 0..names.len() {
            let p = param(index);
            if let Some(g) = grad(index).filter(|_| p.elem_count() > 0) {
                self.update_in_place(index, p, g)?;
            }
        }
        self.step += 1;
        Ok(())
    }

    fn update_in_place(&mut self, index: usize, p: &Tensor, g: &Tensor) -> Result<()> {
        let (step, slots) = (self.step, &mut self.slots[index]);
        let update = &mut self.update;
        if !same_storage(p, g) {
            // Held while the parameter is written; two tensors of one storage would wait for
            // each other.
            let (storage, layout) = g.storage_and_layout();
            if let (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) =
                (&*storage, layout.contiguous_offsets())
            {
                let g = &values[start..end];
                return in_place(p, |p| update.update(step, index, p, g, slots));
            }
        }
        let copy = g.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        in_place(p, |p| update.update(step, index, p, &copy, slots))
    }
}

/// Whether two tensors are views of the same memory.
fn same_storage(a: &Tensor, b: &Tensor) -> bool {
    let (a, _) = a.storage_and_layout();
    let (b, _) = b.storage_and_layout();
    std::ptr::eq(&*a, &*b)
}

/// Changes a contiguous f32 tensor on the CPU in its own memory.
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
