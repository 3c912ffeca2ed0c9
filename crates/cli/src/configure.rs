//! `lopt configure`: θ with other settings of its optimizer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use lopt_core::Theta;
use lopt_meta::registry;

use crate::common::{ensure_free, save_theta};

#[derive(ClapArgs)]
pub struct Args {
    /// The θ file. It is not changed.
    theta: PathBuf,
    /// Set a value of the optimizer's configuration, such as time-limit=500 or online-scale.initial=1;
    /// an empty value removes the key. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", required = true)]
    set: Vec<String>,
    /// The θ file to write.
    #[arg(long, value_name = "FILE", default_value = "theta.safetensors")]
    out: PathBuf,
}

/// Writes the θ file.
pub fn run(args: &Args) -> Result<bool> {
    ensure_free(&args.out)?;
    let theta = Theta::load(&args.theta)?;
    let configured = registry::configure(&theta, &args.set)
        .with_context(|| format!("cannot configure {}", args.theta.display()))?;
    save_theta(&configured, &args.out)?;
    println!("configuration: {:#}", configured.config());
    Ok(true)
}
