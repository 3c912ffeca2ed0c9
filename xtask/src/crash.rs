//! `cargo xtask crash`: kills meta-trainings and evaluations at random moments, resumes them, and
//! compares what they leave with undisturbed ones, bit for bit.

mod work;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::lopt::built;
use work::{Work, unfinished};

/// Arguments of `cargo xtask crash`.
#[derive(clap::Args)]
pub struct Args {
    /// Number of runs to kill, each one to four times. Every fiftieth is an evaluation.
    #[arg(long, default_value_t = 200)]
    runs: u64,
    /// Seed of the random moments at which they are killed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Random numbers: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In \[0, 1).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What was done.
#[derive(Default)]
struct Counts {
    kills: u64,
    before_config: u64,
    within_writes: u64,
    over_before: u64,
}

/// Builds `lopt`, kills its runs, and prints what happened.
pub fn run(args: &Args) -> Result<ExitCode> {
    let lopt = match built(&["--package", "lopt"], &["lopt"])? {
        Ok(programs) => programs[0].clone(),
        Err(code) => return Ok(code),
    };
    let folder = std::env::temp_dir().join(format!("lopt-crash-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let start = Instant::now();
    let mut harness = Harness {
        lopt,
        folder: folder.clone(),
        numbers: Numbers(args.seed),
        references: vec![],
        counts: Counts::default(),
    };
    for index in 0..args.runs {
        let work = Work::of(index);
        let end = harness.disturb(&work);
        end.with_context(|| {
            let folder = folder.display();
            format!(
                "run {index} of seed {}, {work}; it is left in {folder}",
                args.seed
            )
        })?;
        if (index + 1).is_multiple_of(10) {
            let (kills, seconds) = (harness.counts.kills, start.elapsed().as_secs());
            println!("{} runs, {kills} kills, {seconds} s", index + 1);
        }
    }
    let Counts {
        kills,
        before_config,
        within_writes,
        over_before,
    } = harness.counts;
    println!(
        "{} runs were killed {kills} times and resumed, {before_config} times before they had a \
         configuration and {within_writes} times during a write; {over_before} times they finished \
         before they were killed. All ended like undisturbed runs, bit for bit; {} s",
        args.runs,
        start.elapsed().as_secs()
    );
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

struct Harness {
    lopt: PathBuf,
    folder: PathBuf,
    numbers: Numbers,
    /// Undisturbed runs, and how long they took.
    references: Vec<(Work, PathBuf, Duration)>,
    counts: Counts,
}

impl Harness {
    /// Kills a run one to four times, resumes it, and compares it with an undisturbed one.
    fn disturb(&mut self, work: &Work) -> Result<()> {
        let (reference, took) = self.reference(work)?;
        let out = self.folder.join("killed");
        let kills = 1 + self.numbers.next() % 4;
        for _ in 0..kills {
            let mut child = self.spawn(work, &out)?;
            // Half of them later, when something is being written.
            let at_a_write = self.numbers.next().is_multiple_of(2);
            sleep(took.mul_f64(self.numbers.fraction()));
            while at_a_write && unfinished(&out) == 0 && child.try_wait()?.is_none() {}
            child.kill().context("cannot kill it")?;
            let status = child.wait()?;
            if status.success() {
                self.counts.over_before += 1;
                break;
            }
            ensure!(
                status.code().is_none(),
                "it failed by itself: {}",
                self.messages()
            );
            self.counts.kills += 1;
            self.counts.before_config += u64::from(!out.join(work.settings_file()).exists());
            self.counts.within_writes += u64::from(unfinished(&out) > 0);
        }
        let status = self.spawn(work, &out)?.wait()?;
        ensure!(status.success(), "it does not resume: {}", self.messages());
        work.compare(&reference, &out)?;
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))
    }

    /// An undisturbed run.
    fn reference(&mut self, work: &Work) -> Result<(PathBuf, Duration)> {
        if let Some((_, path, took)) = self.references.iter().find(|(other, ..)| other == work) {
            return Ok((path.clone(), *took));
        }
        let out = self
            .folder
            .join(format!("reference{}", self.references.len()));
        let start = Instant::now();
        let status = self.spawn(work, &out)?.wait()?;
        let took = start.elapsed();
        ensure!(
            status.success(),
            "undisturbed, it fails: {}",
            self.messages()
        );
        self.references.push((work.clone(), out.clone(), took));
        Ok((out, took))
    }

    /// Starts it in `out`, or resumes what is there.
    fn spawn(&self, work: &Work, out: &Path) -> Result<Child> {
        let messages = fs::File::create(self.folder.join("messages"))?;
        let mut command = Command::new(&self.lopt);
        command
            .args(work.arguments(out))
            .env_remove("LOPT_DATA_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages);
        command.spawn().context("cannot run lopt")
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.folder.join("messages")).unwrap_or_default()
    }
}

/// Compares the files with these names in two folders.
fn same_files(a: &Path, b: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let read = |folder: &Path| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        if read(a)? != read(b)? {
            bail!("{name} differs");
        }
    }
    Ok(())
}
