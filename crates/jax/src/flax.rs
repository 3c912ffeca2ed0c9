//! Flax's msgpack: nested maps of tensors, which are extensions of type 1 with their own msgpack
//! \[shape, type, bytes\].

use lopt_core::{Error, Result};
use rmpv::{Value, decode, encode};

use crate::{Part, Parts, mismatch};

const TENSOR: i8 = 1;
/// The name of the haiku module of the MLP, which names here leave out.
const MODULE: &str = "~";

/// Larger checkpoints than this are not of these optimizers.
const MAX_BYTES: usize = 1 << 24;

pub fn read(bytes: &[u8]) -> Result<Parts> {
    if bytes.len() > MAX_BYTES {
        return Err(mismatch(
            "the checkpoint has more than 16 MiB, too many for these optimizers",
        ));
    }
    let mut rest = bytes;
    let value = decode::read_value(&mut rest).map_err(not_valid)?;
    if !rest.is_empty() {
        return Err(not_valid(format!("{} bytes follow its end", rest.len())));
    }
    // Some are a tuple of θ and further values.
    let theta = entries(&value)
        .find(|(key, _)| *key == "0")
        .map(|(_, theta)| theta);
    let mut parts = Parts::new();
    collect(theta.unwrap_or(&value), "", &mut parts)?;
    Ok(parts)
}

fn not_valid(problem: impl std::fmt::Display) -> Error {
    mismatch(format!(
        "the checkpoint is not valid msgpack of flax: {problem}"
    ))
}

/// The entries of a map whose keys are texts.
fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = value.as_map().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.as_str()?, value)))
}

fn collect(value: &Value, path: &str, parts: &mut Parts) -> Result<()> {
    match value {
        Value::Map(_) => {
            for (key, value) in entries(value) {
                let path = match (path, key) {
                    (path, MODULE) => path.to_owned(),
                    ("", key) => key.to_owned(),
                    (path, key) => format!("{path}/{key}"),
                };
                collect(value, &path, parts)?;
            }
            Ok(())
        }
        Value::Ext(TENSOR, bytes) => {
            let part =
                tensor(bytes).map_err(|problem| not_valid(format!("`{path}`: {problem}")))?;
            parts.insert(path.to_owned(), part);
            Ok(())
        }
        _ => Err(not_valid(format!("`{path}` is not a tensor"))),
    }
}

fn tensor(bytes: &[u8]) -> std::result::Result<Part, String> {
    let mut rest = bytes;
    let value = decode::read_value(&mut rest).map_err(|e| e.to_string())?;
    let Some([shape, dtype, data]) = value.as_array().map(Vec::as_slice) else {
        return Err("a tensor is not [shape, type, bytes]".to_owned());
    };
    let dtype = dtype.as_str().unwrap_or_default();
    if dtype != "float32" {
        return Err(format!("the type `{dtype}` is not float32"));
    }
    let sizes = shape.as_array().into_iter().flatten();
    let sizes = sizes.map(|size| size.as_u64().and_then(|size| usize::try_from(size).ok()));
    let shape: Vec<usize> = sizes
        .collect::<Option<_>>()
        .ok_or("the shape is not valid")?;
    let data = data.as_slice().ok_or("the values are missing")?;
    let count = shape
        .iter()
        .try_fold(4usize, |count, &size| count.checked_mul(size));
    if count != Some(data.len()) {
        return Err(format!("{} bytes for the shape {shape:?}", data.len()));
    }
    let (words, _) = data.as_chunks::<4>();
    let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    Ok(Part { shape, values })
}

pub fn write(parts: &Parts) -> Result<Vec<u8>> {
    let problem = |e: encode::Error| mismatch(format!("the checkpoint cannot be written: {e}"));
    let mut top: Vec<(Value, Value)> = vec![];
    let mut module: Vec<(Value, Value)> = vec![];
    for (name, part) in parts {
        let shape = part
            .shape
            .iter()
            .map(|&size| Value::from(size as u64))
            .collect();
        let bytes: Vec<u8> = part.values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = Value::Array(vec![
            Value::Array(shape),
            Value::from("float32"),
            Value::Binary(bytes),
        ]);
        let mut payload = vec![];
        encode::write_value(&mut payload, &tensor).map_err(problem)?;
        let tensor = Value::Ext(TENSOR, payload);
        match name.strip_prefix("nn/") {
            Some(name) => {
                if module.is_empty() {
                    // Its place in the order of the names; it is filled below.
                    top.push((Value::from("nn"), Value::Nil));
                }
                module.push((Value::from(name), tensor));
            }
            None => top.push((Value::from(name.as_str()), tensor)),
        }
    }
    let module = Value::Map(vec![(Value::from(MODULE), Value::Map(module))]);
    if let Some((_, place)) = top.iter_mut().find(|(_, value)| value.is_nil()) {
        *place = module;
    }
    let mut bytes = vec![];
    encode::write_value(&mut bytes, &Value::Map(top)).map_err(problem)?;
    Ok(bytes)
}
