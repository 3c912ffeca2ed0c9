//! PyTorch's Adam on one thread, beside the optimizers of this workspace.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use lopt_benches::updates::Tensors;
use serde::Deserialize;
use serde_json::json;

use crate::table::Row;

/// The program that measures.
const PROGRAM: &str = include_str!("../torch_adam.py");

#[derive(Deserialize)]
struct Measured {
    torch: String,
    /// Of each list of tensors.
    seconds: Vec<Seconds>,
}

/// Of a step, for each implementation that this version has.
#[derive(Deserialize)]
struct Seconds {
    fused: Option<f64>,
    foreach: Option<f64>,
}

/// The time of a step, if this Python has PyTorch; else says so, and returns no rows.
pub fn rows(python: &Path, rounds: usize, all: &[Tensors]) -> Result<Vec<Row>> {
    let mut check = Command::new(python);
    check.args(["-c", "import torch"]).stderr(Stdio::null());
    if !check.status().is_ok_and(|status| status.success()) {
        let python = python.display();
        eprintln!("left out: {python} has no torch; `--python` names one that has");
        return Ok(vec![]);
    }
    let measured = measure(python, rounds, all)?;
    let torch = measured.torch;
    let row = |tensors: &Tensors, how: &str, seconds: Option<f64>| {
        let n = tensors.numel();
        let work = format!("torch {torch} Adam({how}=True) step, {n} parameters");
        Some(Row::new(work, 1e9 * seconds? / n as f64, "ns/parameter"))
    };
    let of_size = |(tensors, seconds): (&Tensors, &Seconds)| {
        let fused = row(tensors, "fused", seconds.fused);
        let foreach = row(tensors, "foreach", seconds.foreach);
        fused.into_iter().chain(foreach).collect::<Vec<_>>()
    };
    Ok(all
        .iter()
        .zip(&measured.seconds)
        .flat_map(of_size)
        .collect())
}

fn measure(python: &Path, rounds: usize, all: &[Tensors]) -> Result<Measured> {
    let shapes: Vec<_> = all.iter().map(|tensors| &tensors.shapes).collect();
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| python.display().to_string())?;
    if let Some(mut input) = child.stdin.take() {
        let asked = json!({ "rounds": rounds, "shapes": shapes });
        // If the program has ended early, its status says why.
        let _ = input.write_all(asked.to_string().as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the measurement of torch failed: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the measurement of torch")
}
