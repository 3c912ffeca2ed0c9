//! Adam of PyTorch and DeepSpeed on one thread, beside the optimizers of this workspace.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use lopt_benches::updates::Tensors;
use serde_json::json;

use crate::table::Row;

/// The program that measures.
const PROGRAM: &str = include_str!("../torch_adam.py");

/// The seconds of a step of each implementation, by name.
type Seconds = BTreeMap<String, f64>;

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
    let of_size = |(tensors, seconds): (&Tensors, Seconds)| {
        let n = tensors.numel();
        let row = move |(name, seconds): (String, f64)| {
            let work = format!("{name} step, {n} parameters");
            Row::new(work, 1e9 * seconds / n as f64, "ns/parameter")
        };
        seconds.into_iter().map(row)
    };
    Ok(all.iter().zip(measured).flat_map(of_size).collect())
}

/// Of each list of tensors.
fn measure(python: &Path, rounds: usize, all: &[Tensors]) -> Result<Vec<Seconds>> {
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
