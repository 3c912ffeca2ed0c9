//! The seven moving averages of each parameter tensor and their meta-learned decays b.
//!
//! Each average is updated as x ← b·x + (1 − b)·y, without bias correction. y is g for the three
//! momenta, g² for the second moment v, and the row and column means of g² + 1e-30 for the three
//! factored second moments.

use candle_core::{DType, Device, Tensor};
use lopt_core::{Result, Slot};

use lopt_kernels::per_param::{features::epsilon, theta::initial_decays};

/// The decays b of all accumulators.
#[derive(Clone, Debug)]
pub struct Decays {
    /// The decays of the momenta, \[3\], not clipped.
    pub momentum: Tensor,
    /// The decay of the second moment, \[1\], clipped to \[0, 1\].
    pub rms: Tensor,
    /// The decays of the factored second moments, \[3\], clipped to \[0, 1\].
    pub adafactor: Tensor,
}

impl Decays {
    /// Computes b = 1 − exp(10·(ln(1 − b₀)/10 + δ)) from the offsets δ in θ, in the type of δ. In
    /// f32, 1 − 0.999 is rounded as in the reference.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn new(momentum: &Tensor, rms: &Tensor, adafactor: &Tensor) -> Result<Self> {
        Ok(Self {
            momentum: decay(momentum, &initial_decays::MOMENTUM)?,
            rms: decay(rms, &initial_decays::RMS)?.clamp(0.0, 1.0)?,
            adafactor: decay(adafactor, &initial_decays::ADAFACTOR)?.clamp(0.0, 1.0)?,
        })
    }
}

fn decay(offset: &Tensor, initial: &[f64]) -> Result<Tensor> {
    let device = offset.device();
    let base = if offset.dtype() == DType::F64 {
        let base: Vec<f64> = initial.iter().map(|b| (1.0 - b).ln() / 10.0).collect();
        Tensor::new(base, device)?
    } else {
        let base: Vec<f32> = initial
            .iter()
            .map(|&b| (1.0 - b as f32).ln() / 10.0)
            .collect();
        Tensor::new(base, device)?.to_dtype(offset.dtype())?
    };
    Ok(((offset + base)? * 10.0)?.exp()?.affine(-1.0, 1.0)?)
}

/// Returns the two dimensions that a second moment is factored over, (d1, d0) = (second largest,
/// largest) by a stable ascending sort of the shape, or `None` for rank < 2.
pub fn factored_dims(shape: &[usize]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..shape.len()).collect();
    order.sort_by_key(|&dim| shape[dim]);
    match order.as_slice() {
        [.., d1, d0] => Some((*d1, *d0)),
        _ => None,
    }
}

/// The accumulators of one parameter tensor of shape s. Scalars have the shape \[1\].
#[derive(Clone, Debug)]
pub struct Accumulators {
    /// The momenta, \[3, s…\].
    pub momentum: Tensor,
    /// The second moment, \[s…\].
    pub rms: Tensor,
    /// The factored second moments.
    pub factored: Factored,
}

/// The three factored second moments.
#[derive(Clone, Debug)]
pub enum Factored {
    /// Rank ≥ 2: row and column moments.
    RowCol {
        /// Means over d0, \[3, s without d0…\].
        row: Tensor,
        /// Means over d1, \[3, s without d1…\].
        col: Tensor,
    },
    /// Rank 0 and 1: one moment per element, \[3, s…\].
    Diag(Tensor),
}

/// Returns the shape in which a tensor is processed: \[1\] for scalars, else its own.
pub fn working_shape(shape: &[usize]) -> Vec<usize> {
    if shape.is_empty() {
        vec![1]
    } else {
        shape.to_vec()
    }
}

impl Accumulators {
    /// Creates accumulators of zeros for a parameter of `shape`.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn zeros(shape: &[usize], dtype: DType, device: &Device) -> Result<Self> {
        let shape = working_shape(shape);
        let three = |without: Option<usize>| {
            let kept = shape
                .iter()
                .enumerate()
                .filter(|(dim, _)| Some(*dim) != without);
            let dims: Vec<usize> = std::iter::once(3).chain(kept.map(|(_, n)| *n)).collect();
            Tensor::zeros(dims, dtype, device)
        };
        Ok(Self {
            momentum: three(None)?,
            rms: Tensor::zeros(shape.as_slice(), dtype, device)?,
            factored: match factored_dims(&shape) {
                Some((d1, d0)) => Factored::RowCol {
                    row: three(Some(d0))?,
                    col: three(Some(d1))?,
                },
                None => Factored::Diag(three(None)?),
            },
        })
    }

    /// Converts to the slots of a [`lopt_core::State`].
    pub fn into_slots(self) -> Vec<Slot> {
        let slot = |name, value| Slot { name, value };
        let mut slots = vec![slot("momentum", self.momentum), slot("rms", self.rms)];
        match self.factored {
            Factored::RowCol { row, col } => {
                slots.extend([slot("factored_row", row), slot("factored_col", col)]);
            }
            Factored::Diag(diag) => slots.push(slot("factored_diag", diag)),
        }
        slots
    }

    /// Converts from slots; the inverse of [`Accumulators::into_slots`]. Returns `None` if the
    /// slots belong to another optimizer.
    pub fn from_slots(slots: &[Slot]) -> Option<Self> {
        let value = |index: usize, name| {
            slots
                .get(index)
                .filter(|slot: &&Slot| slot.name == name)
                .map(|slot| slot.value.clone())
        };
        Some(Self {
            momentum: value(0, "momentum")?,
            rms: value(1, "rms")?,
            factored: match (value(2, "factored_row"), value(3, "factored_col")) {
                (Some(row), Some(col)) => Factored::RowCol { row, col },
                _ => Factored::Diag(value(2, "factored_diag")?),
            },
        })
    }
}

/// Returns the accumulators after an update with the gradient `g`, which has the working shape.
///
/// # Errors
/// Returns an error if the state does not match the shape of `g` or a tensor operation fails.
pub fn accumulate(old: &Accumulators, decays: &Decays, g: &Tensor) -> Result<Accumulators> {
    let g2 = g.sqr()?;
    let above_zero = (&g2 + epsilon::SQUARE)?;
    let factored = match (&old.factored, factored_dims(g.dims())) {
        (Factored::RowCol { row, col }, Some((d1, d0))) => Factored::RowCol {
            row: average(row, &decays.adafactor, &above_zero.mean(d0)?)?,
            col: average(col, &decays.adafactor, &above_zero.mean(d1)?)?,
        },
        (Factored::Diag(diag), _) => Factored::Diag(average(diag, &decays.adafactor, &above_zero)?),
        (Factored::RowCol { .. }, None) => {
            return Err(lopt_core::Error::Mismatch(format!(
                "factored state for a gradient of shape {:?}",
                g.dims()
            )));
        }
    };
    Ok(Accumulators {
        momentum: average(&old.momentum, &decays.momentum, g)?,
        rms: average(&old.rms.unsqueeze(0)?, &decays.rms, &g2)?.squeeze(0)?,
        factored,
    })
}

/// Returns b·old + (1 − b)·new, \[k, s…\], for k decays b, old \[k, s…\] and new \[s…\].
fn average(old: &Tensor, decay: &Tensor, new: &Tensor) -> Result<Tensor> {
    let mut dims = vec![1; old.rank()];
    dims[0] = decay.elem_count();
    let b = decay.reshape(dims)?;
    let fresh = new.unsqueeze(0)?.broadcast_mul(&b.affine(-1.0, 1.0)?)?;
    Ok((old.broadcast_mul(&b)? + fresh)?)
}
