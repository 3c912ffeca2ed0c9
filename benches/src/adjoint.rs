//! Rows of the table for exact meta-gradients: STAR on 784-32-10 from the start of training, on
//! one core.

use std::{
    env, fs,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use lopt_benches::{
    inner::{NetworkSize, Path},
    timing::median,
};
use lopt_core::{Purpose, Streams};
use lopt_meta::{MetaLoss, MetaObjective, meta_gradient};
use lopt_tasks::Split;
use serde_json::{Value, json};

use crate::table::{Row, Target};

/// Lengths of the unrolls in inner steps.
const LENGTHS: [usize; 3] = [5, 20, 100];

/// Measures each round in a separate process, with candle on one thread, so that each has its own
/// peak memory.
pub fn rows(rounds: usize) -> Result<Vec<Row>> {
    let mut measured = vec![];
    for _ in 0..rounds {
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("--adjoint-only")
            .env("RAYON_NUM_THREADS", "1")
            .stderr(Stdio::inherit());
        let output = command.output()?;
        let json: Value = serde_json::from_slice(&output.stdout)
            .context("exact meta-gradients were not measured")?;
        measured.push(json);
    }
    let of = |key: String| {
        let values = measured.iter().filter_map(|json| json[&key].as_f64());
        let values: Vec<f64> = values.collect();
        (!values.is_empty()).then(|| median(values))
    };
    let work = "exact meta-gradient of STAR, 784-32-10, one core";
    let mut rows = vec![];
    for length in LENGTHS {
        let target = match length {
            20 => Target::AtMost(0.6),
            _ => Target::None,
        };
        let seconds = of(length.to_string());
        let row = |seconds| Row::new(format!("{work}: {length} steps"), seconds, "s");
        rows.extend(seconds.map(|seconds| row(seconds).target(target)));
    }
    let peak = of("peak".to_owned());
    let row = |peak| Row::new(format!("{work}: peak memory of 20 steps"), peak, "MB");
    rows.extend(peak.map(|peak| row(peak).target(Target::AtMost(250.0))));
    Ok(rows)
}

/// Prints the seconds for each length and, where the system reports it, the peak memory of 20
/// steps.
pub fn measure() -> Result<()> {
    let (task, star) = Path::Native.task_and_star(NetworkSize::new(28, &[32]));
    let streams = Streams::new(0);
    let mut rng = streams.stream(Purpose::ParamsInit, 0, 0, 0);
    let params = task.init(&mut rng)?;
    let state = star.init(&params)?;
    let batch = |t: usize| {
        let mut rng = streams.stream(Purpose::InnerBatch, 0, 0, t as u64);
        Ok(task.batch(Split::Train, &mut rng)?)
    };
    let run = |steps| {
        let objective = MetaObjective {
            steps,
            loss: MetaLoss::Mean,
            horizon: None,
        };
        meta_gradient(&*task, &*star, &params, &state, objective, &batch)
    };
    let mut measured = json!({});
    // The first run allocates the memory.
    run(20)?;
    measured["peak"] = json!(peak());
    for length in LENGTHS {
        let start = Instant::now();
        run(length)?;
        measured[length.to_string()] = json!(start.elapsed().as_secs_f64());
    }
    println!("{measured}");
    Ok(())
}

fn peak() -> Option<f64> {
    crate::runs::peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}
