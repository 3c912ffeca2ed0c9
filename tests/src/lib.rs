//! What tests have in common.
//!
//! * [`Golden`] reads the golden values of the JAX reference; `golden/README.md` describes each file
//!   and how it was made.
//! * [`Attack`] reads damaged files by the thousand, and those that are kept in `attacks`.

mod attack;
mod damage;
pub mod readers;
mod sealed;

pub use attack::{Attack, Checksum, SEED, SEEDS, temporary_folder};
pub use damage::Damage;
pub use sealed::{Part, Sealed};

use std::{collections::HashMap, path::PathBuf};

use candle_core::{DType, Device, Tensor, safetensors::Load};
use lopt_core::{Layout, Params, Theta};
use safetensors::SafeTensors;

/// One file of `golden/`.
pub struct Golden {
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, serde_json::Value>,
}

impl Golden {
    /// Reads `golden/NAME.safetensors`.
    pub fn open(name: &str) -> Self {
        let path: PathBuf = [
            env!("CARGO_MANIFEST_DIR"),
            "golden",
            &format!("{name}.safetensors"),
        ]
        .iter()
        .collect();
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let views = SafeTensors::deserialize(&bytes).expect("a golden file");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a golden file");
        Self {
            tensors: views
                .tensors()
                .into_iter()
                .map(|(name, view)| (name, view.load(&Device::Cpu).expect("a tensor")))
                .collect(),
            metadata: header
                .metadata()
                .iter()
                .flatten()
                .map(|(key, text)| {
                    let plain = || serde_json::Value::String(text.clone());
                    (
                        key.clone(),
                        serde_json::from_str(text).unwrap_or_else(|_| plain()),
                    )
                })
                .collect(),
        }
    }

    /// The metadata entry `key`.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn metadata(&self, key: &str) -> &serde_json::Value {
        self.metadata
            .get(key)
            .unwrap_or_else(|| panic!("no metadata `{key}`"))
    }

    /// The tensor `name`.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn tensor(&self, name: &str) -> &Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no golden tensor `{name}`"))
    }

    /// The tensors below `prefix/`, with the prefix removed, in name order.
    pub fn below(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let mut below: Vec<_> = self
            .tensors
            .iter()
            .filter_map(|(name, tensor)| {
                let rest = name.strip_prefix(prefix)?.strip_prefix('/')?;
                Some((rest.to_owned(), tensor.clone()))
            })
            .collect();
        below.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(!below.is_empty(), "no golden tensors below `{prefix}`");
        below
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

/// The inner parameters of `inputs.safetensors` in `dtype`.
pub fn params(inputs: &Golden, dtype: DType) -> Params {
    let named = inputs.below("params").into_iter();
    Params::new(named.map(|(name, t)| (name, t.to_dtype(dtype).expect("a cast"))))
        .expect("distinct names")
}

/// θ of a golden file. The reference's MLP has four outputs, ours has `heads`: the others are
/// unused in the configurations compared, and their columns are dropped.
pub fn theta(
    inputs: &Golden,
    prefix: &str,
    kind: &str,
    config: serde_json::Value,
    heads: usize,
) -> Theta {
    let parts: Vec<_> = inputs.below(prefix);
    let last = parts
        .iter()
        .filter(|(name, _)| name.starts_with("nn/w"))
        .count()
        - 1;
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(name, tensor)| {
            let of_last = name == format!("nn/w{last}") || name == format!("nn/b{last}");
            let tensor = if of_last {
                let dim = tensor.rank() - 1;
                tensor.narrow(dim, 0, heads).expect("enough outputs")
            } else {
                tensor
            };
            (name, tensor)
        })
        .collect();
    let values = parts
        .iter()
        .flat_map(|(_, t)| flat(t))
        .map(|x| x as f32)
        .collect();
    let layout = Layout::new(
        parts
            .iter()
            .map(|(name, t)| (name.clone(), t.dims().to_vec())),
    );
    Theta::new(kind, config, layout, values).expect("values fit the layout")
}

/// All values in row-major order.
pub fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .and_then(|t| t.flatten_all())
        .and_then(|t| t.to_vec1())
        .expect("values")
}

/// The largest |a − b| relative to the largest |b|.
pub fn relative_error(ours: &Tensor, golden: &Tensor) -> f64 {
    assert_eq!(ours.elem_count(), golden.elem_count(), "shapes differ");
    let (ours, golden) = (flat(ours), flat(golden));
    let largest = golden
        .iter()
        .fold(f64::MIN_POSITIVE, |max, x| max.max(x.abs()));
    let error = ours.iter().zip(&golden).map(|(a, b)| (a - b).abs());
    // NaN must fail: `max` would drop it.
    error.fold(0.0, |max, e| if e <= max { max } else { e }) / largest
}

/// The code in the README, which runs as a documentation test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// The code in the README of lopt-star.
#[cfg(doctest)]
#[doc = include_str!("../../crates/star/README.md")]
pub struct StarReadme;

/// The programs of the tutorial, which run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../TUTORIAL.md")]
pub struct Tutorial;
