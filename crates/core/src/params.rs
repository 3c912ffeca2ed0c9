use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use candle_core::{CpuStorage, DType, Storage, Tensor, Var, backprop::GradStore};

use crate::{Error, GradSource, Result, Workers};

/// A tensor of this many elements or more is divided among threads.
pub(crate) const LARGE: usize = 1 << 20;

/// The largest accepted magnitude of a gradient entry; larger squares can overflow f32.
const LARGEST_GRADIENT: f64 = 1e18;

/// Named tensors in name order: the inner parameters φ of a task.
///
/// The tensors may have any shapes but share one floating-point type and device. Clones share the
/// tensors' memory, so an in-place update, such as that of [`crate::Fused`], is visible in all of
/// them.
#[derive(Clone, Debug)]
pub struct Params {
    names: Arc<[String]>,
    tensors: Vec<Tensor>,
}

impl Params {
    /// Creates the parameters, sorted by name.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if a name occurs twice.
    pub fn new(named: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(pair) = named.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Mismatch(format!(
                "two parameters are named `{}`: give them different names",
                pair[0].0
            )));
        }
        let (names, tensors): (Vec<_>, Vec<_>) = named.into_iter().unzip();
        Ok(Self {
            names: names.into(),
            tensors,
        })
    }

    /// Returns the same names with other tensors, in the same order.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if there are more or fewer tensors than names.
    pub fn with_tensors(&self, tensors: Vec<Tensor>) -> Result<Self> {
        if tensors.len() != self.names.len() {
            return Err(Error::Mismatch(format!(
                "{} tensors for {} parameter names",
                tensors.len(),
                self.names.len()
            )));
        }
        Ok(Self {
            names: self.names.clone(),
            tensors,
        })
    }

    /// The names, sorted.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The tensors, in name order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The number of scalar parameters.
    pub fn numel(&self) -> usize {
        self.tensors.iter().map(Tensor::elem_count).sum()
    }

    /// Returns the tensor with this name.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] with the existing names if there is no such tensor.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.names
            .binary_search_by(|candidate| candidate.as_str().cmp(name))
            .map(|index| &self.tensors[index])
            .map_err(|_| {
                Error::Mismatch(format!(
                    "no parameter is named `{name}`; there are: {}",
                    self.names.join(", ")
                ))
            })
    }

    /// Iterates over names and tensors, in name order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.names.iter().map(String::as_str).zip(&self.tensors)
    }

    /// The shape of each tensor, in name order.
    pub fn shapes(&self) -> Vec<Vec<usize>> {
        self.tensors.iter().map(|t| t.dims().to_vec()).collect()
    }

    /// Copies each tensor to a new [`Var`], for which candle computes gradients.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn to_vars(&self) -> Result<Vec<Var>> {
        self.tensors
            .iter()
            .map(|tensor| Ok(Var::from_tensor(tensor)?))
            .collect()
    }

    /// Copies the values to new variables. Returns them as parameters, to compute a loss, and as
    /// variables, to look up their gradients.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn tracked(&self) -> Result<(Params, Vec<Var>)> {
        let vars = self.to_vars()?;
        let tensors = vars.iter().map(|var| var.as_tensor().clone());
        Ok((self.with_tensors(tensors.collect())?, vars))
    }
}

/// The gradient of each parameter, in the order of the [`Params`]. It is `None` if the loss does
/// not depend on the parameter; optimizers leave such a parameter unchanged.
#[derive(Clone, Debug)]
pub struct Grads(Vec<Option<Tensor>>);

impl Grads {
    /// Creates the gradients from one entry for each parameter, in name order.
    pub fn new(grads: Vec<Option<Tensor>>) -> Self {
        Self(grads)
    }

    /// Takes the gradients of `vars`, which are in the order of the [`Params`], from candle's
    /// store.
    ///
    /// They are detached: otherwise the optimizer's accumulators would keep the graphs of all
    /// training steps alive.
    pub fn from_store(vars: &[Var], store: &GradStore) -> Self {
        Self(
            vars.iter()
                .map(|var| store.get(var).map(Tensor::detach))
                .collect(),
        )
    }

    /// The gradients, in name order.
    pub fn tensors(&self) -> &[Option<Tensor>] {
        &self.0
    }

    /// Checks that every gradient has its parameter's shape and that all entries are finite with a
    /// magnitude of at most 1e18, above which squares can overflow f32. An invalid entry would stay
    /// in the accumulators forever.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if the number or a shape of the gradients is wrong, and
    /// [`Error::BadGradient`] with the parameter's name if an entry is invalid.
    pub fn check(&self, params: &Params) -> Result<()> {
        GradSource::check(self, params)
    }
}

/// The mask of all bits of an f32 except its sign.
const MAGNITUDE: u32 = u32::MAX >> 1;

/// Checks that there are as many gradients as parameters.
pub(crate) fn check_count(count: usize, params: &Params) -> Result<()> {
    if count == params.len() {
        return Ok(());
    }
    let problem = format!("{count} gradients for {} parameters", params.len());
    Err(Error::Mismatch(problem))
}

/// Checks the gradient of one parameter; see [`Grads::check`].
pub(crate) fn check_gradient(name: &str, param: &Tensor, grad: &Tensor) -> Result<()> {
    check_kind(name, param, grad)?;
    verdict(name, largest_magnitude(grad)?)
}

/// Checks the shape and type of the gradient of one parameter.
pub(crate) fn check_kind(name: &str, param: &Tensor, grad: &Tensor) -> Result<()> {
    if grad.shape() != param.shape() {
        return Err(Error::Mismatch(format!(
            "the gradient of parameter `{name}` has shape {:?}, but the parameter has {:?}",
            grad.dims(),
            param.dims()
        )));
    }
    if grad.dtype() != param.dtype() {
        return Err(Error::Mismatch(format!(
            "the gradient of parameter `{name}` has type {:?}, but the parameter has {:?}",
            grad.dtype(),
            param.dtype()
        )));
    }
    Ok(())
}

/// Where parameters are in memory, as long as they live: tensors share memory if one is a view of the
/// other, or both are views of a third one.
#[derive(Debug, Default)]
pub struct Places(Vec<usize>);

impl Places {
    /// Replaces the places by those of `params`.
    pub fn set(&mut self, params: &Params) {
        self.0.clear();
        self.0.extend(params.tensors().iter().map(place));
        self.0.sort_unstable();
    }

    /// Whether a tensor shares its memory with one of the parameters.
    pub fn contain(&self, tensor: &Tensor) -> bool {
        self.0.binary_search(&place(tensor)).is_ok()
    }

    /// Whether no two parameters share their memory.
    pub(crate) fn are_distinct(&self) -> bool {
        self.0.windows(2).all(|pair| pair[0] != pair[1])
    }
}

/// The address of what candle shares among the views of a tensor.
fn place(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref(&*storage).addr()
}

/// Calls `read` with the values of a contiguous f32 tensor on the CPU; `None` for any other.
pub(crate) fn with_values<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Option<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Some(read(&values[start..end]))
        }
        _ => None,
    }
}

/// Checks the values of one parameter's gradient; see [`Grads::check`].
pub(crate) fn check_values(name: &str, grad: &[f32]) -> Result<()> {
    if all_usable(grad) {
        return Ok(());
    }
    verdict(name, f64::from(largest_of(grad)))
}

/// [`check_values`], of a large gradient on all threads.
pub(crate) fn check_values_on(workers: Workers, name: &str, grad: &[f32]) -> Result<()> {
    let threads = workers.threads();
    if threads > 1 && grad.len() >= LARGE {
        let end = |part: usize| part * grad.len() / threads;
        let usable = AtomicBool::new(true);
        workers.each(threads, &|part| {
            if !all_usable(&grad[end(part)..end(part + 1)]) {
                usable.store(false, Ordering::Relaxed);
            }
        });
        if usable.into_inner() {
            return Ok(());
        }
    }
    check_values(name, grad)
}

/// Whether all values are finite with a magnitude of at most [`LARGEST_GRADIENT`]. Comparisons of
/// signed integers vectorize on every processor; the maximum does not.
fn all_usable(values: &[f32]) -> bool {
    let limit = (LARGEST_GRADIENT as f32).to_bits() as i32;
    let unusable = |g: &f32| (g.to_bits() & MAGNITUDE) as i32 > limit;
    let mut blocks = values.chunks_exact(64);
    blocks.all(|block| !block.iter().fold(false, |any, g| any | unusable(g)))
        && !values.chunks_exact(64).remainder().iter().any(unusable)
}

/// Checks a gradient by its largest magnitude.
fn verdict(name: &str, largest: f64) -> Result<()> {
    let what = if largest.is_nan() {
        "contains NaN"
    } else if largest.is_infinite() {
        "is infinite"
    } else if largest > LARGEST_GRADIENT {
        "has an entry above 1e18, whose square overflows"
    } else {
        return Ok(());
    };
    Err(Error::BadGradient {
        param: name.to_owned(),
        what,
    })
}

/// max |g|: NaN if any entry is NaN, 0 for an empty slice.
fn largest_of(values: &[f32]) -> f32 {
    // Without the sign, bit patterns are ordered like the magnitudes, with NaN above ±inf.
    let magnitude = |g: &f32| g.to_bits() & MAGNITUDE;
    f32::from_bits(values.iter().map(magnitude).fold(0, u32::max))
}

/// max |g|: NaN if any entry is NaN, 0 for an empty tensor.
fn largest_magnitude(grad: &Tensor) -> Result<f64> {
    if let Some(largest) = with_values(grad, largest_of) {
        return Ok(f64::from(largest));
    }
    if grad.elem_count() == 0 {
        return Ok(0.0);
    }
    let grad = grad.to_dtype(DType::F64)?;
    // NaN and ±inf times zero give NaN; the maximum alone may ignore NaN.
    let tainted = (&grad * 0.0)?.sum_all()?.to_scalar::<f64>()?.is_nan();
    let largest = grad.abs()?.max_all()?.to_scalar::<f64>()?;
    Ok(match (tainted, largest.is_infinite()) {
        (true, false) => f64::NAN,
        _ => largest,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn params(values: &[f32]) -> Params {
        let t = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        Params::new([("w".to_owned(), t)]).unwrap()
    }

    #[test]
    fn names_are_sorted_and_unique() {
        let t = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let named = |names: &[&str]| {
            Params::new(
                names
                    .iter()
                    .map(|n| ((*n).to_owned(), t.clone()))
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(named(&["b", "a", "c"]).unwrap().names(), ["a", "b", "c"]);
        let error = named(&["b", "a", "b"]).unwrap_err().to_string();
        assert!(error.contains("`b`"), "{error}");
        assert!(named(&["x"]).unwrap().get("y").is_err());
    }

    #[test]
    fn bad_gradients_are_named() {
        let p = params(&[1.0, 2.0]);
        for (bad, word) in [
            (f32::NAN, "NaN"),
            (f32::INFINITY, "infinite"),
            (f32::NEG_INFINITY, "infinite"),
            (2e18, "1e18"),
        ] {
            let grad = Tensor::from_slice(&[0.0, bad], 2, &Device::Cpu).unwrap();
            for grad in [
                grad.clone(),
                grad.to_dtype(DType::F64).unwrap(),
                grad.to_dtype(DType::BF16).unwrap(),
            ] {
                let typed = p.tensors()[0].to_dtype(grad.dtype()).unwrap();
                let p = p.with_tensors(vec![typed]).unwrap();
                let error = Grads::new(vec![Some(grad)]).check(&p).unwrap_err();
                assert!(error.is_bad_gradient());
                let text = error.to_string();
                assert!(text.contains("`w`") && text.contains(word), "{text}");
            }
        }
        let fine = Tensor::from_slice(&[1e18f32, -1e18], 2, &Device::Cpu).unwrap();
        Grads::new(vec![Some(fine)]).check(&p).unwrap();
        Grads::new(vec![None]).check(&p).unwrap();
    }

    #[test]
    fn gradients_of_another_type_are_refused() {
        let grad = Tensor::zeros(2, DType::F64, &Device::Cpu).unwrap();
        let error = Grads::new(vec![Some(grad)]).check(&params(&[1.0, 2.0]));
        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("`w` has type F64") && text.contains("F32"),
            "{text}"
        );
    }

    #[test]
    fn gradients_of_another_shape_are_refused() {
        let p = params(&[1.0, 2.0]);
        let grad = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        let error = Grads::new(vec![Some(grad)])
            .check(&p)
            .unwrap_err()
            .to_string();
        assert!(error.contains("`w`") && error.contains("[3]"), "{error}");
        assert!(Grads::new(vec![]).check(&p).is_err());
    }
}
