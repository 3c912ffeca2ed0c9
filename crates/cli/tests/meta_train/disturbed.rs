//! Runs that are killed, interrupted or damaged resume as if nothing had happened.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    assert_same_run, checkpoints,
    common::{fail, fail_of, lopt, signal, succeed, tiny},
    metrics, reference, unfinished,
};

/// Tries `disturb` (in a folder, with a number of outer steps) until it says that it hit
/// the middle of a run: the faster the machine, the longer the run has to be.
fn in_the_middle(disturb: impl Fn(&Path, &str) -> bool) {
    let hit = |steps: u32| {
        let folder = tempfile::tempdir().unwrap();
        disturb(folder.path(), &format!("outer.steps={steps}"))
    };
    assert!(
        [60, 600, 6000].into_iter().any(hit),
        "even the longest run was over too soon"
    );
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Waits until a run has taken steps beyond those of `before`, the size of its metrics;
/// `false` if it ended without.
fn wait_for_steps(child: &mut Child, run: &Path, before: u64) -> bool {
    let metrics = run.join("metrics.jsonl");
    while size(&metrics) <= before {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        sleep(Duration::from_micros(50));
    }
    true
}

/// How long a run takes on this machine: until its first step, and each step.
struct Pace {
    start_up: Duration,
    step: Duration,
}

/// A run to compare with, and its pace.
fn paced_reference(folder: &Path, steps: &str) -> Pace {
    let run = folder.join("reference");
    let started = Instant::now();
    let mut child = spawn(folder, &tiny("reference", &["--set", steps]));
    wait_for_steps(&mut child, &run, 0);
    let start_up = started.elapsed();
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", told(folder));
    let step = (started.elapsed() - start_up) / metrics(&run).len() as u32;
    Pace { start_up, step }
}

/// Starts lopt with its messages in a file, which never fills as a pipe does.
fn spawn(folder: &Path, arguments: &[&str]) -> Child {
    let messages = File::create(folder.join("messages")).unwrap();
    lopt(folder, arguments).stderr(messages).spawn().unwrap()
}

fn told(folder: &Path) -> String {
    fs::read_to_string(folder.join("messages")).unwrap()
}

/// The run `killed`, to be killed again and again.
struct Victim<'a> {
    folder: &'a Path,
    steps: &'a str,
    pace: Pace,
}

impl Victim<'_> {
    fn run(&self) -> PathBuf {
        self.folder.join("killed")
    }

    /// Starts the run, or resumes it where a user would.
    fn spawn(&self) -> Child {
        if self.run().join("config.toml").exists() {
            return spawn(self.folder, &["meta-train", "--resume", "killed"]);
        }
        spawn(self.folder, &tiny("killed", &["--set", self.steps]))
    }

    /// Kills it when this fraction of its start-up is over.
    fn kill_in_start_up(&self, fraction: f64) -> bool {
        let child = self.spawn();
        sleep(self.pace.start_up.mul_f64(fraction));
        self.kill(child)
    }

    /// Kills it when it has taken a step, and up to two more.
    fn kill_in_steps(&self, fraction: f64) -> bool {
        let before = size(&self.run().join("metrics.jsonl"));
        let mut child = self.spawn();
        if wait_for_steps(&mut child, &self.run(), before) {
            sleep(self.pace.step.mul_f64(2.0 * fraction));
        }
        self.kill(child)
    }

    /// Returns `false` if the run was over before.
    fn kill(&self, mut child: Child) -> bool {
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.success() {
            return false;
        }
        assert_eq!(status.signal(), Some(9), "{status}: {}", told(self.folder));
        true
    }
}

/// Killed at many moments, resumed each time: the end is that of an undisturbed run.
#[test]
fn kill_9_at_any_moment_loses_nothing() {
    in_the_middle(|folder, steps| {
        let pace = paced_reference(folder, steps);
        let victim = Victim {
            folder,
            steps,
            pace,
        };
        let mut kills_in_steps = 0;
        for attempt in 0..100 {
            // The multiples of the golden ratio are spread evenly over [0, 1).
            let fraction = (f64::from(attempt) * 0.618_034).fract();
            let in_start_up = attempt < 8 || attempt % 4 == 0;
            let killed = if in_start_up {
                victim.kill_in_start_up(fraction)
            } else {
                victim.kill_in_steps(fraction)
            };
            kills_in_steps += u32::from(killed && !in_start_up);
            if !killed || kills_in_steps == 12 {
                break;
            }
        }
        println!("{steps}: {kills_in_steps} kills after start-up");
        succeed(folder, &["meta-train", "--resume", "killed"]);
        assert_same_run(&folder.join("reference"), &victim.run(), "after kills");
        assert_eq!(unfinished(&victim.run()), 0);
        kills_in_steps >= 6
    });
}

/// A run that was killed after its last checkpoint, before it removed older ones, removes them when it is
/// resumed.
#[test]
fn old_checkpoints_are_removed_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path(), &[]);
    let killed = folder.path().join("killed");
    succeed(folder.path(), &tiny("killed", &[]));
    let (_, newest) = checkpoints(&killed).pop_last().unwrap();
    let old = killed.join("checkpoints/step-00000001.safetensors");
    fs::write(old, newest).unwrap();
    fs::remove_file(killed.join("theta.safetensors")).unwrap();
    succeed(folder.path(), &["meta-train", "--resume", "killed"]);
    assert_same_run(&run, &killed, "after a kill");
}

/// Ctrl-C saves the last step and says how to resume.
#[test]
fn ctrl_c_saves_and_tells_how_to_go_on() {
    in_the_middle(|folder, steps| {
        let run = reference(folder, &["--set", steps]);
        let stopped = folder.join("stopped");
        let more = ["--set", steps, "--set", "checkpoint.every=100000"];
        let mut child = spawn(folder, &tiny("stopped", &more));
        if wait_for_steps(&mut child, &stopped, 0) {
            signal(&child, "INT");
        }
        let status = child.wait().unwrap();
        let interrupted = status.code() == Some(130);
        assert!(interrupted || status.success(), "{}", told(folder));
        if interrupted {
            assert!(
                told(folder).contains("--resume stopped"),
                "{}",
                told(folder)
            );
            succeed(folder, &["meta-train", "--resume", "stopped"]);
        }
        assert_eq!(metrics(&run), metrics(&stopped));
        interrupted
    });
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let run = reference(folder.path(), &[]);
    succeed(folder.path(), &tiny("damaged", &[]));
    let damaged = folder.path().join("damaged");
    let newest = damaged.join("checkpoints/step-00000012.safetensors");
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let text = succeed(folder.path(), &["meta-train", "--resume", "damaged"]);
    assert!(
        text.contains("passing over") && text.contains("checksum"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "colours in a file: {text}");
    assert!(text.contains("resuming after outer step 11"), "{text}");
    assert_same_run(&run, &damaged, "from an older checkpoint");
    let aside = damaged.join("unusable/step-00000012.safetensors");
    assert!(aside.exists());

    for entry in fs::read_dir(damaged.join("checkpoints")).unwrap().flatten() {
        fs::write(entry.path(), b"junk").unwrap();
    }
    let text = fail(folder.path(), &["meta-train", "--resume", "damaged"]);
    assert!(
        text.contains("no checkpoint can be used") && text.contains("step-00000012"),
        "{text}"
    );
}

/// Damaged checkpoints do not displace those that are written after them.
#[test]
fn checkpoints_from_a_backup_are_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    let stopped = here.join("stopped");
    // With one step less the run is complete before, and its checkpoints are those of the reference.
    succeed(here, &tiny("stopped", &["--set", "checkpoint.keep=100"]));
    let checkpoint = |step: u64| stopped.join(format!("checkpoints/step-{step:08}.safetensors"));
    for step in 0..=12 {
        match step {
            0..4 | 5..10 => fs::remove_file(checkpoint(step)).unwrap(),
            4 => {}
            _ => fs::write(checkpoint(step), b"damaged").unwrap(),
        }
    }
    let config = stopped.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("keep = 100", "keep = 2")).unwrap();
    let text = succeed(here, &["meta-train", "--resume", "stopped"]);
    assert!(text.contains("resuming after outer step 4"), "{text}");
    assert_same_run(&run, &stopped, "from a backup");
    assert_eq!(fs::read_dir(stopped.join("unusable")).unwrap().count(), 3);
}

/// A checkpoint continues the run that wrote it and no other.
#[test]
fn checkpoints_of_other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    succeed(here, &tiny("other", &["--seed", "5"]));
    let checkpoints = here.join("other/checkpoints");
    for entry in fs::read_dir(&checkpoints).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    let name = "step-00000012.safetensors";
    fs::copy(run.join("checkpoints").join(name), checkpoints.join(name)).unwrap();
    let text = fail(here, &["meta-train", "--resume", "other"]);
    assert!(
        text.contains("belongs to a run with another configuration"),
        "{text}"
    );

    let config = run.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("sigma = 0.01"), "{text}");
    fs::write(&config, text.replace("sigma = 0.01", "sigma = 0.02")).unwrap();
    let text = fail(here, &["meta-train", "--resume", "reference"]);
    assert!(
        text.contains("belongs to a run with another configuration"),
        "{text}"
    );
}

/// A complete run has nothing left to do, and needs no more than its last θ.
#[test]
fn a_complete_run_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    reference(here, &[]);
    fs::rename(here.join("reference"), here.join("my run")).unwrap();
    fs::remove_file(here.join("my run/best.safetensors")).unwrap();
    let text = succeed(here, &["meta-train", "--resume", "my run"]);
    assert!(
        text.contains("the run was complete after 12 outer steps"),
        "{text}"
    );
    assert!(text.contains("best.safetensors is missing"), "{text}");
    assert!(text.contains("θ: my run/theta.safetensors"), "{text}");
}

/// Removes the later checkpoints of a run of 12 outer steps, as if it had been killed before them.
fn back_to_step_6(run: &Path) {
    for step in 7..=12 {
        let checkpoint = format!("checkpoints/step-{step:08}.safetensors");
        fs::remove_file(run.join(checkpoint)).unwrap();
    }
}

/// After a kill, the best θ may be of a later outer step than the checkpoint. If the run then takes
/// other steps, it is not the best of them.
#[test]
fn the_best_theta_of_abandoned_steps_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &["--set", "checkpoint.keep=100"]);
    let best = || {
        let theta = lopt_core::Theta::load(&run.join("best.safetensors")).unwrap();
        theta.provenance()["outer_step"].as_u64().unwrap()
    };
    assert!(best() > 7, "{}", best());
    back_to_step_6(&run);
    let resume = [
        "meta-train",
        "--resume",
        "reference",
        "--set",
        "outer.steps=7",
    ];
    // What cannot be resumed loses nothing.
    let too_few = [&resume[..4], &["outer.steps=5"]].concat();
    fail(here, &too_few);
    assert!(best() > 7);
    let text = succeed(here, &resume);
    assert!(text.contains("was removed"), "{text}");
    assert_eq!(best(), 7);

    fs::write(run.join("best.safetensors"), "damaged").unwrap();
    let text = succeed(here, &["meta-train", "--resume", "reference"]);
    assert!(text.contains("best.safetensors is damaged"), "{text}");
}

/// The best θ of outer steps that will be taken again stays, also if checkpoints are to be written at
/// other steps.
#[test]
fn the_best_theta_of_repeated_steps_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &["--set", "checkpoint.keep=100"]);
    let best = || lopt_core::Theta::load(&run.join("best.safetensors")).unwrap();
    let before = best();
    back_to_step_6(&run);
    let config = run.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("keep = 100", "keep = 3")).unwrap();
    let text = succeed(here, &["meta-train", "--resume", "reference"]);
    assert!(!text.contains("removed"), "{text}");
    assert_eq!(best().values(), before.values());
}

/// The number of outer steps may also be changed in the file; the last θ is that of a complete run.
#[test]
fn a_run_that_goes_on_has_no_last_theta() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    let config = run.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("steps = 12\n", "steps = 1000000\n")).unwrap();
    let mut child = lopt(here, &["meta-train", "--resume", "reference"])
        .spawn()
        .unwrap();
    let last = run.join("theta.safetensors");
    let start = Instant::now();
    while last.exists() {
        assert!(start.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_without_checkpoints_does_not_start_over() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    for entry in fs::read_dir(run.join("checkpoints")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    let text = fail(here, &["meta-train", "--resume", "reference"]);
    assert!(text.contains("no checkpoint to resume from"), "{text}");
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
}

#[test]
fn damaged_metrics_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = reference(here, &[]);
    let path = run.join("metrics.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let resume = ["meta-train", "--resume", "reference"];

    let lines: Vec<&str> = whole.lines().collect();
    let damaged = [&lines[..6], &["{\"outer_step\": 7, "], &lines[7..], &[""]]
        .concat()
        .join("\n");
    fs::write(&path, &damaged).unwrap();
    let text = fail(here, &resume);
    assert!(text.contains("metrics.jsonl: line 7 is damaged"), "{text}");
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);

    // What a killed process was writing goes; what follows the checkpoint does not matter.
    fs::write(&path, format!("{whole}{{\"outer")).unwrap();
    succeed(here, &resume);
    assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    let unfinished = whole.trim_end().trim_end_matches('}');
    fs::write(&path, unfinished).unwrap();
    let text = succeed(here, &resume);
    assert!(text.contains("unfinished last line"), "{text}");
    assert!(text.contains("outer steps 12 to 12 are missing"), "{text}");
}

/// Simultaneous starts without a name for the run get directories of their own.
#[test]
fn simultaneous_starts_do_not_collide() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = tiny("", &[]);
    // Without `--run-dir ""`.
    let arguments = [&arguments[..1], &arguments[3..]].concat();
    let children: Vec<Child> = (0..4)
        .map(|_| {
            lopt(folder.path(), &arguments)
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let runs = fs::read_dir(folder.path().join("runs")).unwrap().flatten();
    let complete = runs.filter(|run| run.path().join("theta.safetensors").exists());
    assert_eq!(complete.count(), 4);
}

/// An empty variable of one launcher does not hide that of another.
#[test]
fn launchers_are_recognized() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = lopt(folder.path(), &["eval-ood"]);
    command.env("OMPI_COMM_WORLD_SIZE", "").env("PMI_SIZE", "2");
    assert!(fail_of(command).contains("started as 2 processes"));
}

#[test]
fn two_processes_do_not_share_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let endless = tiny("shared", &["--set", "outer.steps=100000000"]);
    let mut first = spawn(folder.path(), &endless);
    let started = wait_for_steps(&mut first, &folder.path().join("shared"), 0);
    assert!(started, "{}", told(folder.path()));
    let text = fail(folder.path(), &["meta-train", "--resume", "shared"]);
    assert!(text.contains("another process"), "{text}");
    first.kill().unwrap();
    first.wait().unwrap();
}
