//! `lopt import` and `lopt export`: checkpoints of the JAX original.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args as ClapArgs;
use lopt_core::{Theta, file};

use crate::{
    common::{ensure_free, save_theta},
    output::paragraph,
};

/// The name of the settings' file beside a checkpoint.
const GIN: &str = "config.gin";

#[derive(ClapArgs)]
pub struct ImportArgs {
    /// The checkpoint, a file `params` of `MLPNomLOpt` (STAR) or `AdafacMLPLOpt` (the blackbox).
    params: PathBuf,
    /// The settings of the optimizer. [default: `config.gin` in the folder of the checkpoint, else the
    /// original's defaults]
    #[arg(long, value_name = "FILE")]
    gin: Option<PathBuf>,
    /// The θ file to write.
    #[arg(long, value_name = "FILE", default_value = "theta.safetensors")]
    out: PathBuf,
}

#[derive(ClapArgs)]
pub struct ExportArgs {
    /// The θ file, of STAR or the blackbox.
    theta: PathBuf,
    /// Leave out the time limit and the online scale, which the original does not have. The exported
    /// optimizer then takes different steps.
    #[arg(long)]
    without_extensions: bool,
    /// New folder for `params` and `config.gin`.
    #[arg(long, value_name = "DIR", default_value = "checkpoint")]
    out: PathBuf,
}

/// Writes the θ file of a checkpoint.
pub fn import(args: &ImportArgs) -> Result<bool> {
    ensure_free(&args.out)?;
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let params = read(&args.params)?;
    let beside = args.params.with_file_name(GIN);
    let gin = args
        .gin
        .clone()
        .or_else(|| beside.exists().then_some(beside));
    let settings = match &gin {
        Some(path) => String::from_utf8_lossy(&read(path)?).into_owned(),
        None => String::new(),
    };
    let theta = lopt_jax::import(&params, &settings)
        .with_context(|| format!("cannot import {}", args.params.display()))?;
    save_theta(&theta, &args.out)?;
    let given = &theta.provenance()["imported"]["settings"];
    let settings = match gin {
        Some(path) if given.as_object().is_some_and(|given| given.is_empty()) => format!(
            "the original's defaults, because {} has none of this optimizer",
            path.display()
        ),
        Some(path) => path.display().to_string(),
        None => format!(
            "the original's defaults, because there is no {GIN}; with them STAR has no nominal term"
        ),
    };
    println!("{}", paragraph("settings: ", &settings));
    println!("configuration: {:#}", theta.config());
    Ok(true)
}

/// Writes a checkpoint for the original.
pub fn export(args: &ExportArgs) -> Result<bool> {
    let theta = Theta::load(&args.theta)?;
    let exported = lopt_jax::export(&theta, args.without_extensions)
        .with_context(|| format!("cannot export {}", args.theta.display()))?;
    let out = &args.out;
    let free = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    ensure!(
        free,
        "{} is not an empty folder; choose another",
        out.display()
    );
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    file::write_atomically(&out.join(GIN), exported.gin.as_bytes())?;
    file::write_atomically(&out.join("params"), &exported.params)?;
    println!("{0}/params, {0}/{GIN}", out.display());
    Ok(true)
}
