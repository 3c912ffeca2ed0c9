//! Checkpoints of the JAX original, and their settings.

/// Reads a checkpoint with the original's default settings, or with those of a `config.gin`.
///
/// # Errors
/// Returns why it cannot be read.
///
/// # Panics
/// Panics if its values are not finite.
pub fn read_flax(params: &[u8], gin: &str) -> Result<String, String> {
    let theta = lopt_jax::import(params, gin).map_err(|e| e.to_string())?;
    assert!(theta.values().iter().all(|value| value.is_finite()));
    Ok(format!("{} {}", theta.digest(), theta.config()))
}

/// A checkpoint of the original's STAR.
pub fn flax() -> Vec<u8> {
    include_bytes!("../../golden/flax/star.params").to_vec()
}
