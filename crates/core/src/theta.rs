use std::{path::Path, sync::Arc};

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};

use crate::{Error, Result, file};

/// The names and shapes of the parts of θ, in name order. The flat vector is the concatenation of
/// the parts, each row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<(String, Vec<usize>)>);

impl Layout {
    /// Creates a layout from parts in any order.
    pub fn new(parts: impl IntoIterator<Item = (String, Vec<usize>)>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort();
        Self(parts)
    }

    /// The number of meta-parameters.
    pub fn numel(&self) -> usize {
        self.0.iter().map(|(_, shape)| numel(shape)).sum()
    }

    /// Iterates over the name, shape and start in the flat vector of each part.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[usize], usize)> {
        let mut offset = 0;
        self.0.iter().map(move |(name, shape)| {
            let start = offset;
            offset += numel(shape);
            (name.as_str(), shape.as_slice(), start)
        })
    }
}

fn numel(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn check_count(kind: &str, layout: &Layout, count: usize) -> Result<()> {
    let needed = layout.numel();
    if count != needed {
        let problem = format!("θ of `{kind}` has {needed} meta-parameters, not {count}");
        return Err(Error::Mismatch(problem));
    }
    Ok(())
}

/// The meta-parameters θ of a learned optimizer: a flat f32 vector with named parts, the kind and
/// configuration of the optimizer, and the provenance.
///
/// Copies with other values share everything else.
#[derive(Clone, Debug, PartialEq)]
pub struct Theta {
    about: Arc<About>,
    provenance: Arc<Value>,
    values: Vec<f32>,
}

#[derive(Debug, PartialEq)]
struct About {
    kind: String,
    config: Value,
    layout: Layout,
}

impl Theta {
    /// Creates θ for an optimizer of this kind ("star", "blackbox") and configuration.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if the number of values is not that of the layout.
    pub fn new(kind: &str, config: Value, layout: Layout, values: Vec<f32>) -> Result<Self> {
        check_count(kind, &layout, values.len())?;
        let about = About {
            kind: kind.to_owned(),
            config,
            layout,
        };
        Ok(Self {
            about: Arc::new(about),
            provenance: Arc::default(),
            values,
        })
    }

    /// Returns the same θ with other values.
    ///
    /// # Errors
    /// Returns [`Error::Mismatch`] if there are more or fewer values than meta-parameters.
    pub fn with_values(&self, values: Vec<f32>) -> Result<Self> {
        check_count(self.kind(), self.layout(), values.len())?;
        Ok(Self {
            about: self.about.clone(),
            provenance: self.provenance.clone(),
            values,
        })
    }

    /// How θ was made: any JSON, stored in the file for its readers.
    pub fn provenance(&self) -> &Value {
        &self.provenance
    }

    /// Returns the same θ with another provenance.
    pub fn with_provenance(self, provenance: Value) -> Self {
        Self {
            provenance: Arc::new(provenance),
            ..self
        }
    }

    /// The kind of the optimizer, such as "star" or "blackbox".
    pub fn kind(&self) -> &str {
        &self.about.kind
    }

    /// The optimizer's configuration.
    pub fn config(&self) -> &Value {
        &self.about.config
    }

    /// The layout of the parts.
    pub fn layout(&self) -> &Layout {
        &self.about.layout
    }

    /// The values as a flat vector.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the parts as tensors, in layout order.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn tensors(&self, dtype: DType, device: &Device) -> Result<Vec<Tensor>> {
        self.layout()
            .parts()
            .map(|(_, shape, start)| {
                let values = &self.values[start..start + numel(shape)];
                let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?;
                Ok(tensor.to_dtype(dtype)?.to_device(device)?)
            })
            .collect()
    }

    /// A digest of everything but the provenance: equal for optimizers that take the same steps.
    pub fn digest(&self) -> String {
        let mut about = json!([self.kind(), self.config()]).to_string();
        for (name, shape, _) in self.layout().parts() {
            about += &json!([name, shape]).to_string();
        }
        let values = self.values.iter().flat_map(|value| value.to_le_bytes());
        file::sha256(
            about
                .into_bytes()
                .into_iter()
                .chain(values)
                .collect::<Vec<_>>(),
        )
    }

    /// Writes θ to a safetensors file atomically.
    ///
    /// # Errors
    /// Returns an error if a value is not finite, which no reader would accept, or the file cannot
    /// be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        if !self.values.iter().all(|value| value.is_finite()) {
            let problem = "is not written, because θ contains NaN or inf";
            return Err(Error::file(path, problem));
        }
        let names = self.layout().parts().map(|(name, ..)| name.to_owned());
        let tensors: Vec<_> = names.zip(self.tensors(DType::F32, &Device::Cpu)?).collect();
        let description = json!({
            "optimizer": self.kind(),
            "configuration": self.config(),
            "provenance": self.provenance(),
        });
        file::write(path, "theta", &description, &tensors)
    }

    /// Reads θ from a file written by [`Theta::save`].
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is damaged or is not a θ file, or if it
    /// contains a value that is not finite.
    pub fn load(path: &Path) -> Result<Self> {
        Self::of_contents(file::read(path, "theta")?, path)
    }

    /// Parses the content of a file written by [`Theta::save`]. `path` is used in error messages.
    ///
    /// # Errors
    /// Returns an error if the content is damaged or is not that of a θ file, or if it contains a
    /// value that is not finite.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self> {
        Self::of_contents(file::parse(bytes, path, "theta")?, path)
    }

    fn of_contents(contents: file::Contents, path: &Path) -> Result<Self> {
        let mut description = contents.description;
        let kind = description["optimizer"]
            .as_str()
            .ok_or_else(|| Error::file(path, "does not name the optimizer it belongs to"))?
            .to_owned();
        let layout = Layout::new(
            contents
                .tensors
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())),
        );
        let mut values = Vec::with_capacity(layout.numel());
        for (name, tensor) in &contents.tensors {
            if tensor.dtype() != DType::F32 {
                let problem = format!("tensor `{name}` is {:?}, not F32", tensor.dtype());
                return Err(Error::file(path, problem));
            }
            let part = tensor.flatten_all()?.to_vec1::<f32>()?;
            if !part.iter().all(|value| value.is_finite()) {
                return Err(Error::file(
                    path,
                    format!("tensor `{name}` contains NaN or inf"),
                ));
            }
            values.extend(part);
        }
        let theta = Self::new(&kind, description["configuration"].take(), layout, values)?;
        Ok(theta.with_provenance(description["provenance"].take()))
    }
}
