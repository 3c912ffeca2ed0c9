//! The format of [`lopt_core::file`], written by hand: with contents that lopt would not write.

use std::collections::HashMap;

use lopt_core::file;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json, value::RawValue};

/// The contents of a file with a checksum.
#[derive(Clone)]
pub struct Sealed {
    /// Such as "theta".
    pub kind: String,
    /// JSON, or not.
    pub description: String,
    /// The tensors, in name order.
    pub tensors: Vec<Part>,
}

/// A tensor of a [`Sealed`] file.
#[derive(Clone)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements.
    pub data: Vec<u8>,
}

impl Sealed {
    /// Takes a valid file apart.
    ///
    /// # Panics
    /// Panics if it is not valid.
    pub fn open(bytes: &[u8]) -> Self {
        Self::parse(bytes).expect("a file with a header entry")
    }

    /// Takes a file apart, whatever its checksum.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        let entry = metadata.metadata().as_ref()?.get("lopt")?;
        let header: HashMap<String, Box<RawValue>> = serde_json::from_str(entry).ok()?;
        let views = SafeTensors::deserialize(bytes).ok()?;
        let mut tensors: Vec<_> = views.tensors().into_iter().collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let part = |(name, view): (String, TensorView)| Part {
            name,
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data().to_vec(),
        };
        Some(Self {
            kind: serde_json::from_str(header.get("kind")?.get()).ok()?,
            description: header.get("description")?.get().to_owned(),
            tensors: tensors.into_iter().map(part).collect(),
        })
    }

    /// Returns the bytes of the file, with the checksum of these contents.
    ///
    /// # Panics
    /// Panics if a tensor does not have as many bytes as its shape needs.
    pub fn bytes(&self) -> Vec<u8> {
        let mut parts = vec![self.kind.clone().into(), self.description.clone().into()];
        let mut tensors: Vec<&Part> = self.tensors.iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        for Part {
            name,
            dtype,
            shape,
            data,
        } in &tensors
        {
            parts.push(name.clone().into_bytes());
            parts.push(format!("{dtype:?}{shape:?}").into_bytes());
            parts.push(data.clone());
        }
        let lengths = |part: &Vec<u8>| (part.len() as u64).to_le_bytes();
        let whole = parts
            .iter()
            .flat_map(|part| [&lengths(part)[..], part].concat());
        let sha256 = file::sha256(whole.collect::<Vec<u8>>());
        let entry = format!(
            "{{\"format\":1,\"kind\":{},\"sha256\":\"{sha256}\",\"description\":{}}}",
            Value::String(self.kind.clone()),
            self.description
        );
        let views = tensors.iter().map(|part| {
            let view = TensorView::new(part.dtype, part.shape.clone(), &part.data);
            (part.name.as_str(), view.expect("a tensor"))
        });
        let metadata = HashMap::from([("lopt".to_owned(), entry)]);
        safetensors::serialize(views, Some(metadata)).expect("a safetensors file")
    }

    /// Returns what the contents mean, whatever their bytes.
    pub fn meaning(&self) -> String {
        let description: Value = serde_json::from_str(&self.description).unwrap_or_default();
        let tensors = self.tensors.iter().map(|part| {
            let data = file::sha256(&part.data);
            json!([part.name, format!("{:?}{:?}", part.dtype, part.shape), data])
        });
        json!([description, tensors.collect::<Vec<_>>()]).to_string()
    }
}
