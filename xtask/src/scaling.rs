//! How meta-training scales over ranks: measured here, and what the measured terms say for
//! more.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lopt::built;

/// Arguments of `cargo xtask scaling`.
#[derive(clap::Args)]
pub struct Args {
    /// Tasks of each rank.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1000))]
    tasks: u64,
    /// The most ranks that are run here; 1, 2, 4, … up to it. [default: the processors]
    #[arg(long)]
    ranks: Option<u64>,
    /// Outer steps of each run.
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// Microseconds of a message in the network of the model. [default: measured here, between
    /// two ranks]
    #[arg(long, value_name = "MICROSECONDS")]
    latency: Option<f64>,
    /// Bandwidth of the network of the model. [default: measured here, between two ranks]
    #[arg(long, value_name = "GB/S")]
    bandwidth: Option<f64>,
    /// Sets a value of the preset `quick`, such as seed=3. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// 8 bytes for each of four pieces of 202 meta-parameters, meta-loss and inner steps; and
/// whether to stop.
const SUM_BYTES: u64 = 8 * (4 * 204 + 1);
/// A message long enough to tell the bandwidth.
const LONG_BYTES: u64 = 1 << 20;

/// Builds `lopt` with MPI, runs it, and prints two tables.
pub fn run(args: &Args) -> Result<ExitCode> {
    let with_mpi = ["--package", "lopt", "--features", "mpi"];
    let lopt = match built(&with_mpi, &["lopt"])? {
        Ok(programs) => programs[0].clone(),
        Err(code) => return Ok(code),
    };
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let most = args.ranks.unwrap_or(processors).max(1);
    let counts: Vec<u64> = (0..63).map(|i| 1 << i).take_while(|n| *n <= most).collect();
    println!(
        "measured: {} tasks for each rank, a thread each",
        args.tasks
    );
    println!("| ranks | seconds/outer step | inner steps/s | efficiency |");
    println!("|------:|-------------------:|--------------:|-----------:|");
    let mut alone: Option<Measured> = None;
    for &ranks in &counts {
        let run = meta_train(&lopt, args, ranks)?;
        let seconds_alone = alone.as_ref().map_or(run.seconds, |alone| alone.seconds);
        println!(
            "| {ranks} | {:.5} | {:.0} | {:.2} |",
            run.seconds,
            run.inner_steps / run.seconds,
            seconds_alone / run.seconds
        );
        alone.get_or_insert(run);
    }
    let alone = alone.context("no run")?;
    let network = Network::new(&lopt, args)?;
    println!();
    print_model(args, &alone, &network);
    Ok(ExitCode::SUCCESS)
}

/// What a message costs.
struct Network {
    /// Seconds.
    latency: f64,
    /// Seconds.
    per_byte: f64,
}

impl Network {
    fn new(lopt: &Path, args: &Args) -> Result<Self> {
        let given = (args.latency, args.bandwidth);
        let measured = match given {
            (Some(_), Some(_)) => (0.0, 0.0),
            _ => {
                let short = sum_seconds(lopt, SUM_BYTES)?;
                let long = sum_seconds(lopt, LONG_BYTES)?;
                let per_byte = (long - short).max(0.0) / (LONG_BYTES - SUM_BYTES) as f64;
                ((short - per_byte * SUM_BYTES as f64).max(0.0), per_byte)
            }
        };
        Ok(Self {
            latency: args.latency.map_or(measured.0, |us| 1e-6 * us),
            per_byte: args.bandwidth.map_or(measured.1, |gb| 1e-9 / gb),
        })
    }

    fn seconds(&self, bytes: f64) -> f64 {
        self.latency + self.per_byte * bytes
    }
}

fn print_model(args: &Args, alone: &Measured, network: &Network) {
    println!(
        "model: an outer step takes {:.5} s for a rank's tasks + ⌈log₂ R⌉·({:.1} µs + {SUM_BYTES} bytes·{:.3} ns/byte);\n\
         a checkpoint goes to rank 0 in {:.3} MB for each task. Left out: waiting for the slowest rank, and the disk.",
        alone.seconds,
        1e6 * network.latency,
        1e9 * network.per_byte,
        alone.checkpoint / 1e6
    );
    println!(
        "| ranks | tasks | bytes/rank and sum | seconds/outer step | efficiency | checkpoint, MB | seconds to rank 0 |"
    );
    println!(
        "|------:|------:|-------------------:|-------------------:|-----------:|---------------:|------------------:|"
    );
    for ranks in [1u64, 2, 4, 8, 16, 64, 256, 1024, 4096, 10_000] {
        let stages = f64::from(u64::BITS - (ranks - 1).leading_zeros());
        let seconds = alone.seconds + stages * network.seconds(SUM_BYTES as f64);
        let tasks = ranks * args.tasks;
        let checkpoint = alone.checkpoint * tasks as f64;
        let others = checkpoint * (ranks - 1) as f64 / ranks as f64;
        println!(
            "| {ranks} | {tasks} | {} | {seconds:.5} | {:.3} | {:.1} | {:.3} |",
            if ranks == 1 { 0 } else { SUM_BYTES },
            alone.seconds / seconds,
            checkpoint / 1e6,
            (ranks - 1) as f64 * network.latency + others * network.per_byte
        );
    }
}

/// One run.
struct Measured {
    /// Median of an outer step.
    seconds: f64,
    /// In an outer step, both halves counted.
    inner_steps: f64,
    /// Bytes of a checkpoint for each task.
    checkpoint: f64,
}

fn mpirun(ranks: u64, lopt: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n"]);
    command.arg(ranks.to_string()).arg(lopt);
    command
}

fn meta_train(lopt: &Path, args: &Args, ranks: u64) -> Result<Measured> {
    let folder = std::env::temp_dir().join(format!("lopt-scaling-{}", std::process::id()));
    let run = folder.join(format!("ranks{ranks}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut command = mpirun(ranks, lopt);
    command
        .args(["meta-train", "--threads", "1", "--run-dir"])
        .arg(&run);
    let own = [
        format!("estimator.tasks={}", ranks * args.tasks),
        format!("outer.steps={}", args.steps),
        // The last step has one in any case.
        "held-out.every=1000000".to_owned(),
        "held-out.horizon=1".to_owned(),
        "checkpoint.every=1000000".to_owned(),
    ];
    for setting in own.iter().chain(&args.overrides) {
        command.args(["--set", setting]);
    }
    let output = command.output().context("cannot run mpirun")?;
    let metrics = fs::read_to_string(run.join("metrics.jsonl"));
    let checkpoints = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |file| file.len());
    let checkpoint = checkpoints.flatten().map(size).max().unwrap_or_default();
    let _ = fs::remove_dir_all(&folder);
    if !output.status.success() {
        bail!("{ranks} ranks: {}", String::from_utf8_lossy(&output.stderr));
    }
    let (mut seconds, mut inner_steps, mut before) = (vec![], vec![], 0.0);
    for line in metrics.context("no metrics")?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let total = line["inner_steps"].as_f64().unwrap_or_default();
        seconds.extend(line["seconds"].as_f64());
        inner_steps.push(total - before);
        before = total;
    }
    Ok(Measured {
        seconds: median(seconds)?,
        inner_steps: median(inner_steps)?,
        checkpoint: checkpoint as f64 / (ranks * args.tasks) as f64,
    })
}

/// Median seconds of a sum over two ranks of so many bytes.
fn sum_seconds(lopt: &Path, bytes: u64) -> Result<f64> {
    let mut command = mpirun(2, lopt);
    let output = command
        .args(["sum-latency", "--bytes"])
        .arg(bytes.to_string());
    let output = output.output().context("cannot run mpirun")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let seconds = text.trim().parse();
    seconds.with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("no latency was measured: {text}{errors}")
    })
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).copied();
    middle.context("nothing was measured")
}
