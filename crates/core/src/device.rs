//! Devices as a user names them: `cpu`, `cuda:0`.

use candle_core::Device;

use crate::{Error, Result};

/// The device that `name` stands for: `cpu`, `cuda` or `cuda:N`.
///
/// # Errors
/// If the name is none of these, or the GPU cannot be had; nothing falls back to
/// another device.
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
            .map_err(|_| error(format!("`{number}` is no device number; say `cuda:0`")))?,
        _ => return Err(error("unknown; say `cpu` or `cuda:N`".to_owned())),
    };
    if cfg!(not(feature = "cuda")) {
        return Err(error(
            "this build has no CUDA; build with `--features cuda` (needs the CUDA toolkit), or say `cpu`"
                .to_owned(),
        ));
    }
    Device::new_cuda(ordinal)
        .map_err(|cause| error(format!("{cause}; check `nvidia-smi`, or say `cpu`")))
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
