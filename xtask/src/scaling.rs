//! `cargo xtask scaling`: measures how meta-training scales over MPI ranks on this machine and
//! extrapolates to more.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lopt::{built, has};

/// Arguments of `cargo xtask scaling`.
#[derive(clap::Args)]
pub struct Args {
    /// Tasks per rank.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=1000))]
    tasks: u64,
    /// Maximum number of ranks; 1, 2, 4, … up to it are measured. [default: the number of
    /// processors]
    #[arg(long)]
    ranks: Option<u64>,
    /// Outer steps per run.
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// Latency of a message in the modeled link. [default: measured between two ranks on this
    /// machine]
    #[arg(long, value_name = "MICROSECONDS")]
    latency: Option<f64>,
    /// Bandwidth of the modeled link. [default: measured between two ranks on this machine]
    #[arg(long, value_name = "GB/S")]
    bandwidth: Option<f64>,
    /// Override a value of the preset `quick`, such as seed=3. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Bytes that the ranks sum in an outer step: four 8-byte pieces for each meta-parameter, the
/// meta-loss and the number of inner steps, and 8 bytes for the stop flag.
fn sum_bytes(meta_parameters: u64) -> u64 {
    8 * (4 * (meta_parameters + 2) + 1)
}

/// A message long enough to measure the bandwidth.
const LONG_BYTES: u64 = 1 << 20;

/// Builds `lopt` with MPI, measures it, and prints two tables.
pub fn run(args: &Args) -> Result<ExitCode> {
    check_tools()?;
    let with_mpi = ["--package", "lopt", "--features", "mpi"];
    let lopt = match built(&with_mpi, &["lopt"])? {
        Ok(programs) => programs[0].clone(),
        Err(code) => return Ok(code),
    };
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let most = args.ranks.unwrap_or(processors).max(1);
    let counts: Vec<u64> = (0..63).map(|i| 1 << i).take_while(|n| *n <= most).collect();
    println!(
        "measured: {} tasks per rank, one thread per rank",
        args.tasks
    );
    println!("| ranks | seconds/outer step | inner steps/s | efficiency |");
    println!("|------:|-------------------:|--------------:|-----------:|");
    let mut alone: Option<Measured> = None;
    for (index, &ranks) in counts.iter().enumerate() {
        let started = Instant::now();
        let run = meta_train(&lopt, args, ranks)?;
        let left = counts.len() - index - 1;
        if left > 0 {
            // Each rank has as much to do as in this run.
            let seconds = started.elapsed().as_secs_f64();
            let plural = if left == 1 { "" } else { "s" };
            let seconds = seconds * left as f64;
            eprintln!("{left} run{plural} left, about {seconds:.0} s");
        }
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
    let link = Link::new(&lopt, args, alone.sum_bytes)?;
    println!();
    print_model(args, &alone, &link);
    Ok(ExitCode::SUCCESS)
}

/// Returns an error that says what to install if a tool for building with MPI is missing.
fn check_tools() -> Result<()> {
    const PACKAGES: &str = "on Debian and Ubuntu: apt-get install libopenmpi-dev openmpi-bin \
                            libclang-dev; on macOS: brew install open-mpi llvm";
    for tool in ["mpirun", "mpicc"] {
        ensure!(has(tool), "cannot run `{tool}`; install an MPI, {PACKAGES}");
    }
    ensure!(
        env::var_os("LIBCLANG_PATH").is_some() || has_libclang(),
        "found no libclang, which building with MPI needs; install it, {PACKAGES}; or set \
         LIBCLANG_PATH to the folder that contains it"
    );
    Ok(())
}

/// Whether libclang is in a usual place.
fn has_libclang() -> bool {
    let mut folders: Vec<PathBuf> = [
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/opt/homebrew/opt/llvm/lib",
        "/usr/local/opt/llvm/lib",
        "/Library/Developer/CommandLineTools/usr/lib",
    ]
    .map(PathBuf::from)
    .into();
    let inside = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten();
    folders.extend(inside("/usr/lib").map(|entry| entry.path()));
    folders.extend(inside("/usr/lib").map(|entry| entry.path().join("lib")));
    let files = folders.iter().flat_map(fs::read_dir).flatten().flatten();
    let is_it = |name: &str| {
        let rest = name.strip_prefix("libclang").unwrap_or_default();
        let version = rest.strip_prefix('-').unwrap_or_default();
        [".so", ".dylib"].iter().any(|end| rest.starts_with(end))
            || version.starts_with(|c: char| c.is_ascii_digit())
    };
    files
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| is_it(&name))
}

/// The cost of a message.
struct Link {
    /// Seconds per message.
    latency: f64,
    /// Seconds per byte.
    per_byte: f64,
}

impl Link {
    fn new(lopt: &Path, args: &Args, sum_bytes: u64) -> Result<Self> {
        let given = (args.latency, args.bandwidth);
        let measured = match given {
            (Some(_), Some(_)) => (0.0, 0.0),
            _ => {
                let short = sum_seconds(lopt, sum_bytes)?;
                let long = sum_seconds(lopt, LONG_BYTES)?;
                let per_byte = (long - short).max(0.0) / (LONG_BYTES - sum_bytes) as f64;
                ((short - per_byte * sum_bytes as f64).max(0.0), per_byte)
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

fn print_model(args: &Args, alone: &Measured, link: &Link) {
    let sum_bytes = alone.sum_bytes;
    println!(
        "model: an outer step takes {:.5} s for the tasks of a rank +\n⌈log₂ R⌉·({:.1} µs + \
         {sum_bytes} bytes·{:.3} ns/byte); for a checkpoint, rank 0\nreceives {:.3} MB per task of \
         the other ranks. Not modeled: waiting for the\nslowest rank, and the disk.",
        alone.seconds,
        1e6 * link.latency,
        1e9 * link.per_byte,
        alone.checkpoint / 1e6
    );
    println!("| ranks | tasks | s/outer step | efficiency | checkpoint, MB | s to rank 0 |");
    println!("|------:|------:|-------------:|-----------:|---------------:|------------:|");
    for ranks in [1u64, 2, 4, 8, 16, 64, 256, 1024, 4096, 10_000] {
        let stages = f64::from(u64::BITS - (ranks - 1).leading_zeros());
        let seconds = alone.seconds + stages * link.seconds(sum_bytes as f64);
        let tasks = ranks * args.tasks;
        let checkpoint = alone.checkpoint * tasks as f64;
        let others = checkpoint * (ranks - 1) as f64 / ranks as f64;
        println!(
            "| {ranks} | {tasks} | {seconds:.5} | {:.3} | {:.1} | {:.3} |",
            alone.seconds / seconds,
            checkpoint / 1e6,
            (ranks - 1) as f64 * link.latency + others * link.per_byte
        );
    }
}

/// Measurements of one run.
struct Measured {
    /// Median seconds per outer step.
    seconds: f64,
    /// Median inner steps per outer step, over both halves of the antithetic pairs.
    inner_steps: f64,
    /// Bytes of a checkpoint per task.
    checkpoint: f64,
    /// Bytes that the ranks sum in an outer step.
    sum_bytes: u64,
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
        // The last outer step is evaluated and saved in any case.
        "held-out.every=1000000".to_owned(),
        "held-out.horizon=1".to_owned(),
        "checkpoint.every=1000000".to_owned(),
    ];
    let key = |setting: &str| setting.split('=').next().map(|key| key.trim().to_owned());
    let of_own = |set: &&String| own.iter().any(|setting| key(setting) == key(set));
    if let Some(set) = args.overrides.iter().find(of_own) {
        bail!("`--set {set}`: this command sets that itself; see --tasks and --steps");
    }
    for setting in own.iter().chain(&args.overrides) {
        command.args(["--set", setting]);
    }
    let output = command.output().context("cannot run mpirun")?;
    let metrics = fs::read_to_string(run.join("metrics.jsonl"));
    let checkpoints = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |file| file.len());
    let checkpoint = checkpoints.flatten().map(size).max().unwrap_or_default();
    let theta = fs::read(run.join("best.safetensors"));
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
        sum_bytes: sum_bytes(elements(&theta.context("no θ")?)?),
    })
}

/// Number of tensor elements in a safetensors file, according to its header.
fn elements(file: &[u8]) -> Result<u64> {
    let (length, rest) = file.split_first_chunk::<8>().context("θ is empty")?;
    let header = usize::try_from(u64::from_le_bytes(*length))?;
    let header = rest.get(..header).context("the header of θ is truncated")?;
    let header: Value = serde_json::from_slice(header)?;
    let tensors = header.as_object().into_iter().flat_map(|o| o.values());
    let shapes = tensors.filter_map(|tensor| tensor["shape"].as_array());
    let count = |shape: &Vec<Value>| shape.iter().filter_map(Value::as_u64).product::<u64>();
    Ok(shapes.map(count).sum())
}

/// Median seconds of a sum of `bytes` bytes over two ranks.
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
        format!("cannot measure the latency: {text}{errors}")
    })
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).copied();
    middle.context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shipped STAR has 202 meta-parameters.
    #[test]
    fn meta_parameters_are_counted_in_the_header() {
        let star = include_bytes!("../../crates/star/weights/star.safetensors");
        assert_eq!(elements(star).unwrap(), 202);
        assert_eq!(sum_bytes(202), 6_536);
        assert!(elements(&star[..100]).is_err() && elements(&[]).is_err());
    }
}
