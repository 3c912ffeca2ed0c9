//! Meta-training by several processes: `cargo test -p lopt --features mpi --test mpi`, with
//! Open MPI's `mpirun`.
#![cfg(target_os = "linux")]

#[path = "common/mod.rs"]
#[allow(dead_code)]
mod common;
#[path = "common/runs.rs"]
#[allow(dead_code)]
mod runs;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{LOPT, TINY, both, succeed};
use runs::assert_same_run;

/// Eight small tasks; the estimator's own settings come with `more`.
fn arguments<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["meta-train", "--run-dir", run, "--threads", "1"];
    for setting in TINY {
        let setting = match setting {
            "estimator.tasks=3" => "estimator.tasks=8",
            "checkpoint.keep=2" => "checkpoint.keep=10000",
            setting => setting,
        };
        // Whole unrolls have no truncation.
        if !(setting.starts_with("estimator.truncation") && more.contains(&"full-es")) {
            arguments.extend(["--set", setting]);
        }
    }
    arguments.extend(more);
    arguments
}

fn mpirun(folder: &Path, ranks: usize, arguments: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    // The tests may run as root, on fewer cores than ranks.
    command.args([
        "--allow-run-as-root",
        "--oversubscribe",
        "--timeout",
        "120",
        "-n",
    ]);
    command.arg(ranks.to_string()).arg(LOPT).args(arguments);
    command
        .current_dir(folder)
        .env_remove("LOPT_DATA_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, ranks: usize, arguments: &[&str]) {
    let output = mpirun(folder, ranks, arguments)
        .output()
        .expect("mpirun runs");
    let text = both(&output);
    assert!(output.status.success(), "{ranks} ranks: {text}");
    assert!(!text.contains("panicked"), "{text}");
}

/// 1 rank × 8 tasks, 4 × 2, and 3 ranks of 2, 3 and 3, with every estimator.
#[test]
fn the_number_of_ranks_does_not_matter() {
    for kind in ["pes", "es", "full-es", "backprop"] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let more = ["--estimator", kind];
        succeed(folder, &arguments("alone", &more));
        for ranks in [1, 3, 4] {
            let name = format!("ranks{ranks}");
            run(folder, ranks, &arguments(&name, &more));
            let (alone, together) = (folder.join("alone"), folder.join(&name));
            assert_same_run(&alone, &together, &format!("{kind}, {ranks} ranks"));
        }
    }
}

fn lines(run: &Path) -> usize {
    fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

fn wait_for_lines(child: &mut Child, run: &Path, count: usize) {
    let start = Instant::now();
    while lines(run) < count {
        assert!(child.try_wait().unwrap().is_none(), "over too early");
        assert!(start.elapsed() < Duration::from_secs(60), "no metrics");
        sleep(Duration::from_millis(1));
    }
}

/// The process of one rank below `mpirun`.
fn process_of_rank(mpirun: &Child, rank: usize) -> u32 {
    let path = format!("/proc/{0}/task/{0}/children", mpirun.id());
    let children = fs::read_to_string(path).unwrap();
    let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_rank = |id: &&str| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let mut entries = environment.split(|&byte| byte == 0);
        entries.any(|entry| entry == wanted.as_bytes())
    };
    let id = children.split_whitespace().find(is_rank);
    id.expect("a process of that rank").parse().unwrap()
}

/// A rank that dies ends the run; it resumes with the same or another number of ranks, and
/// by itself, to the same end.
#[test]
fn a_rank_that_dies_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let more = ["--set", "outer.steps=150"];
    succeed(folder, &arguments("alone", &more));
    for (victim, ranks_after) in [(1, 2), (0, 4), (2, 0)] {
        let name = format!("victim{victim}");
        let path = folder.join(&name);
        let mut child = mpirun(folder, 4, &arguments(&name, &more)).spawn().unwrap();
        wait_for_lines(&mut child, &path, 20);
        let id = process_of_rank(&child, victim).to_string();
        let killed = Command::new("kill").args(["-9", &id]).status();
        assert!(killed.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let text = both(&output);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("signal 9"), "{text}");
        if victim != 0 {
            assert!(text.contains(&format!("--resume {name}")), "{text}");
        }
        assert!(lines(&path) < 150, "the run was over");
        let resume = ["meta-train", "--threads", "1", "--resume", &name];
        match ranks_after {
            0 => drop(succeed(folder, &resume)),
            ranks => run(folder, ranks, &resume),
        }
        assert_same_run(&folder.join("alone"), &path, &format!("rank {victim} died"));
    }
}

/// A signal to one rank stops all of them at the same step.
#[test]
fn a_signal_to_one_rank_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let more = ["--set", "outer.steps=150"];
    succeed(folder, &arguments("alone", &more));
    let path = folder.join("stopped");
    let mut child = mpirun(folder, 2, &arguments("stopped", &more))
        .spawn()
        .unwrap();
    wait_for_lines(&mut child, &path, 20);
    let rank = process_of_rank(&child, 1).to_string();
    let status = Command::new("kill").args(["-INT", &rank]).status();
    assert!(status.unwrap().success());
    let text = both(&child.wait_with_output().unwrap());
    assert!(text.contains("stopped after outer step"), "{text}");
    assert!(lines(&path) < 150);
    run(folder, 2, &["meta-train", "--resume", "stopped"]);
    assert_same_run(&folder.join("alone"), &path, "stopped");
}

#[test]
fn mistakes_end_all_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (ranks, arguments, word) in [
        (9, arguments("many", &[]), "9 ranks for 8 tasks"),
        (
            2,
            vec!["meta-train", "--resume", "nowhere"],
            "not a run directory",
        ),
        (
            2,
            arguments("bad", &["--set", "task.image-size=[64]"]),
            "image size 64",
        ),
    ] {
        let output = mpirun(folder, ranks, &arguments).output().unwrap();
        let text = both(&output);
        assert!(!output.status.success(), "{text}");
        assert!(text.contains(word) && !text.contains("panicked"), "{text}");
    }
    assert!(!folder.join("many").exists());
}
