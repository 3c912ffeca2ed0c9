//! Parses device names such as `cpu` and `cuda:0`.

use candle_core::Device;

use crate::{Error, Result};

/// Returns the device named `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// Returns [`Error::Device`] if the name is not valid or the GPU is not available. There is no
/// fallback to another device.
pub fn parse(name: &str) -> Result<Device> {
    let error = |problem: String| Error::Device {
        device: name.to_owned(),
        problem,
    };
    let ordinal = match name.split_once(':') {
        None if name == "cpu" => return Ok(Device::Cpu),
        None if name == "cuda" => 0,
        Some(("cuda", number)) => number
            .parse()
            .map_err(|_| error(format!("`{number}` is not a device number; use `cuda:0`")))?,
        _ => return Err(error("unknown name; use `cpu` or `cuda:N`".to_owned())),
    };
    if cfg!(not(feature = "cuda")) {
        return Err(error(
            "built without CUDA; build with `--features cuda` (requires the CUDA toolkit), or use \
             `cpu`"
                .to_owned(),
        ));
    }
    // One stream for all threads: candle would otherwise give each thread its own, and not
    // synchronize them.
    Device::new_cuda_with_stream(ordinal)
        .map_err(|cause| error(format!("{cause}; check `nvidia-smi`, or use `cpu`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(parse("cpu").unwrap().is_cpu());
        for bad in ["", "gpu", "cuda:x", "cpu:0", "cuda:-1", "metal"] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("device `{bad}`")), "{error}");
        }
    }
}
