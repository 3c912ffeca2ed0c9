//! The evaluation by the real binary, on real images.
#![cfg(unix)]

mod common;

use std::{fs, path::Path, thread::sleep, time::Duration};

use common::{
    BLOCK, both, fail, fail_of, lopt, output, signal, succeed, tiny, with_small_files, write_cifar,
};

/// Two tasks of the quick suite.
const EVAL: [&str; 7] = [
    "eval-ood",
    "--seeds",
    "1",
    "--group",
    "in-distribution",
    "--out",
    "result",
];

/// The θ of [`trained`].
const TRAINED: [&str; 4] = [
    "--theta",
    "runs/star/best.safetensors",
    "--theta",
    "runs/blackbox/best.safetensors",
];

/// The optimizers of a report.
const OPTIMIZERS: [&str; 7] = [
    "star",
    "blackbox",
    "adam 1e-3",
    "adam online",
    "adam",
    "adamw",
    "sgd",
];

fn trained(folder: &Path) {
    succeed(folder, &tiny("runs/star", &[]));
    succeed(folder, &tiny("runs/blackbox", &["--optimizer", "blackbox"]));
}

fn report(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(folder.join("result/report.json")).unwrap()).unwrap()
}

#[test]
fn an_evaluation_writes_its_reports() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    trained(here);
    let arguments = [&EVAL[..], &TRAINED].concat();
    let text = succeed(here, &arguments);
    let star = "star: runs/star/best.safetensors, meta-trained on mlp on fashion-mnist";
    assert!(text.contains(star), "{text}");
    assert!(
        text.contains("blackbox: runs/blackbox/best.safetensors"),
        "{text}"
    );
    assert!(!text.contains("warning"), "{text}");
    assert!(text.contains("speed-up"), "{text}");
    let report = report(here);
    let results = report["tasks"][0]["outcome"]["done"]["results"]
        .as_array()
        .unwrap();
    let names: Vec<_> = results
        .iter()
        .map(|r| r["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, OPTIMIZERS);
    for result in results {
        let loss = result["final_losses"][0].as_f64().unwrap();
        assert!((0.0..4.0).contains(&loss), "{result}");
    }
    // The tuned baselines have learned something.
    let done = &report["tasks"][0]["outcome"]["done"];
    for (index, grid) in [15, 8, 8].into_iter().enumerate() {
        let accuracy = results[4 + index]["test_accuracies"][0].as_f64().unwrap();
        assert!(accuracy > 0.7, "{index}: {accuracy}");
        let tuned = &done["tuned"][index];
        assert_eq!(tuned["baseline"], OPTIMIZERS[4 + index]);
        assert_eq!(tuned["grid"].as_array().unwrap().len(), grid);
    }
    // Optimizers that were trained for twelve outer steps are no match for tuned Adam.
    for result in &results[..3] {
        let ratio = result["speed_up"]["ratio"].as_f64().unwrap();
        assert!(ratio > 0.0 && ratio <= 1.0, "{result}");
    }
    // 4 contenders and 31 learning rates.
    assert!(
        text.contains("35 training runs on 1 task: about "),
        "{text}"
    );
    let versus = &report["groups"][0]["versus"];
    assert_eq!(versus[1]["baseline"], "adamw");
    let ratio = versus[1]["loss_ratio"]["estimate"].as_f64().unwrap();
    assert!(ratio > 1.0, "{versus}");
    let csv = fs::read_to_string(here.join("result/report.csv")).unwrap();
    assert_eq!(csv.lines().count(), 8, "{csv}");
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [16; 8], "{csv}");
    let svgs: Vec<_> = fs::read_dir(here.join("result/curves"))
        .unwrap()
        .flatten()
        .collect();
    let svg = fs::read_to_string(svgs[0].path()).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("inner step") && svg.contains("blackbox"));

    let svg = fs::read_to_string(here.join("result/losses.svg")).unwrap();
    assert!(
        svg.contains("adam 1e-3") && svg.contains("adam (tuned)"),
        "{svg}"
    );

    // The same settings again: nothing is computed twice, the report is the same.
    let before = fs::read(here.join("result/report.json")).unwrap();
    fs::write(here.join("result/report.json"), b"").unwrap();
    let text = succeed(here, &arguments);
    assert!(text.contains("no training run is left to do"), "{text}");
    assert!(before == fs::read(here.join("result/report.json")).unwrap());
    // Other settings do not mix with it.
    let other = [
        "eval-ood",
        "--seeds",
        "2",
        "--group",
        "in-distribution",
        "--out",
        "result",
    ];
    let text = fail(here, &[&other[..], &TRAINED].concat());
    assert!(text.contains("other settings"), "{text}");
    // From nothing, with another number of threads: the same bytes.
    fs::remove_dir_all(here.join("result")).unwrap();
    succeed(here, &[&arguments[..], &["--threads", "1"]].concat());
    assert!(before == fs::read(here.join("result/report.json")).unwrap());
}

#[test]
fn the_shipped_optimizers_are_evaluated_unless_others_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    trained(here);
    let text = succeed(
        here,
        &[&EVAL[..], &["--adam-learning-rate", "1e-2"]].concat(),
    );
    assert_eq!(text.matches("the shipped θ").count(), 2, "{text}");
    let done = &report(here)["tasks"][0]["outcome"]["done"];
    assert_eq!(done["tuned"][0]["grid"].as_array().unwrap().len(), 1);
    assert_eq!(done["tuned"][0]["learning-rate"], 1e-2);
    assert_eq!(done["tuned"][1]["grid"].as_array().unwrap().len(), 8);
    assert_eq!(done["results"].as_array().unwrap().len(), OPTIMIZERS.len());

    // One θ is compared with the baselines only, and two of different trainings with a warning.
    fs::remove_dir_all(here.join("result")).unwrap();
    let star = &TRAINED[..2];
    let quick = ["--adam-learning-rate", "1e-2"];
    let text = succeed(here, &[&EVAL[..], star, &quick].concat());
    assert!(
        !text.contains("blackbox: ") && !text.contains("warning"),
        "{text}"
    );
    let done = &report(here)["tasks"][0]["outcome"]["done"];
    assert_eq!(
        done["results"].as_array().unwrap().len(),
        OPTIMIZERS.len() - 1
    );
    fs::remove_dir_all(here.join("result")).unwrap();
    let weights = "../blackbox/weights/blackbox.safetensors";
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(weights);
    let shipped = ["--theta", shipped.to_str().unwrap()];
    let text = succeed(here, &[&EVAL[..], star, &shipped, &quick].concat());
    assert!(
        text.contains("warning: these optimizers were meta-trained on different"),
        "{text}"
    );
}

#[test]
fn without_baselines_only_learned_optimizers_are_trained() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let alone = [&EVAL[..], &["--no-baselines"]].concat();
    let text = succeed(here, &alone);
    assert!(text.contains("2 training runs on 1 task: about "), "{text}");
    let of_baselines = ["Adam", "speed-up", "tuned", "losses.svg"];
    let found = of_baselines.iter().find(|word| text.contains(**word));
    assert_eq!(found, None, "{text}");
    let of_all = &report(here)["groups"][0];
    assert_eq!(of_all["runs"], 1, "{of_all}");
    assert_eq!(of_all["diverged"], 0, "{of_all}");
    assert_eq!(of_all["speed_up"], serde_json::Value::Null);
    let losses = |of: &serde_json::Value| {
        let results = &of["tasks"][0]["outcome"]["done"]["results"];
        let results = results.as_array().unwrap().iter();
        let each = results.map(|r| (r["name"].to_string(), r["final_losses"].to_string()));
        each.collect::<Vec<_>>()
    };
    let of_learned = losses(&report(here));
    assert!(!here.join("result/losses.svg").exists());
    let page = fs::read_to_string(here.join("result/report.html")).unwrap();
    assert!(page.contains("diverged") && !page.contains("speed-up"));

    // The learned optimizers' runs are those of a comparison.
    let text = fail(here, &EVAL);
    assert!(text.contains("other settings"), "{text}");
    fs::remove_dir_all(here.join("result")).unwrap();
    succeed(
        here,
        &[&EVAL[..], &["--adam-learning-rate", "1e-2"]].concat(),
    );
    assert_eq!(losses(&report(here))[..2], of_learned);
}

#[test]
fn the_learning_rate_scales_the_steps_of_learned_optimizers_only() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Without an online scale, which would make up for the factor.
    let weights = |kind: &str| {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        crates.join(kind).join("weights/paper.safetensors")
    };
    let (star, blackbox) = (weights("star"), weights("blackbox"));
    let papers = [
        "--theta",
        star.to_str().unwrap(),
        "--theta",
        blackbox.to_str().unwrap(),
    ];
    let still = ["--learning-rate", "1e-9", "--adam-learning-rate", "1e-2"];
    succeed(here, &[&EVAL[..], &papers, &still].concat());
    let done = &report(here)["tasks"][0]["outcome"]["done"];
    let loss = |optimizer: usize| done["results"][optimizer]["final_losses"][0].as_f64();
    // The loss of a network that does not move; then the untuned baselines.
    assert!(loss(0) > Some(2.0) && loss(1) > Some(2.0), "{done}");
    assert!(loss(2) < Some(1.0) && loss(3) < Some(1.0), "{done}");
}

#[test]
fn an_interrupted_evaluation_keeps_what_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    trained(here);
    let arguments = [
        "eval-ood",
        "--seeds",
        "1",
        "--group",
        "nonlinearity",
        "--out",
        "result",
    ];
    let mut child = lopt(here, &arguments).spawn().unwrap();
    while !here.join("result/tasks/000.safetensors").exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended before the first task was kept"
        );
        sleep(Duration::from_millis(5));
    }
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept = fs::metadata(here.join("result/tasks/000.safetensors"))
        .unwrap()
        .modified()
        .unwrap();
    succeed(here, &arguments);
    let after = fs::metadata(here.join("result/tasks/000.safetensors"))
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(kept, after);
    assert_eq!(report(here)["tasks"].as_array().unwrap().len(), 4);
}

/// What was evaluated before a disk was full is kept, and what a killed process left is removed.
#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let size = |file: &str| fs::metadata(here.join("result").join(file)).unwrap().len();
    succeed(here, &EVAL);
    let whole = report(here);
    let files = ["settings.json", "tasks/000.safetensors", "report.json"];
    let sizes = files.map(size);
    assert!(sizes.is_sorted(), "{sizes:?}");
    fs::remove_dir_all(here.join("result")).unwrap();
    for (file, size) in files.into_iter().zip(sizes) {
        let text = fail_of(with_small_files(here, (size - 1) / BLOCK, &EVAL));
        assert!(
            text.contains(file) && text.contains("File too large"),
            "{text}"
        );
        assert!(!here.join("result").join(file).exists());
        let left = here.join(format!("result/tasks/.{}.1.unfinished", size));
        fs::create_dir(left).unwrap();
    }
    succeed(here, &EVAL);
    assert_eq!(report(here), whole);
    let tasks = fs::read_dir(here.join("result/tasks")).unwrap();
    assert_eq!(tasks.count(), 1);
}

#[test]
fn results_on_other_data_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    trained(here);
    write_cifar(&here.join("dark"), 30);
    write_cifar(&here.join("bright"), 200);
    let evaluate = |data_dir, out| {
        let group = ["eval-ood", "--seeds", "1", "--group", "dataset"];
        [&group[..], &["--data-dir", data_dir, "--out", out]].concat()
    };
    succeed(here, &evaluate("dark", "result"));
    let text = fail(here, &evaluate("bright", "result"));
    assert!(
        text.contains("`cifar10` is another data set than before"),
        "{text}"
    );
    succeed(here, &evaluate("dark", "result"));
    let reuse = [evaluate("bright", "other"), vec!["--reuse", "result"]].concat();
    let text = fail(here, &reuse);
    assert!(
        text.contains("`cifar10` is another data set than before"),
        "{text}"
    );
}

#[test]
fn missing_data_are_listed_and_not_fatal() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    trained(here);
    let arguments = [
        "eval-ood",
        "--seeds",
        "1",
        "--group",
        "dataset",
        "--data-dir",
        "nothing",
        "--out",
        "result",
    ];
    let text = succeed(here, &arguments);
    assert!(
        text.contains("skipped dataset: cifar10") && text.contains("data fetch cifar10"),
        "{text}"
    );
    let report = report(here);
    assert!(
        report["tasks"][1]["outcome"]["skipped"].is_object(),
        "{report}"
    );
    let csv = fs::read_to_string(here.join("result/report.csv")).unwrap();
    assert!(
        csv.lines().all(|line| line.split(',').count() == 16),
        "{csv}"
    );
}

#[test]
fn an_evaluation_without_any_data_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let arguments = [
        "eval-ood",
        "--suite",
        "full",
        "--group",
        "in-distribution",
        "--data-dir",
        "nothing",
        "--out",
        "result",
    ];
    let text = fail(here, &arguments);
    assert!(
        text.contains("nothing was evaluated: ") && text.contains("data fetch fashion-mnist"),
        "{text}"
    );
    assert!(!here.join("result/report.json").exists());
}

#[test]
fn bad_input_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    trained(here);
    fs::write(here.join("junk"), b"junk").unwrap();
    let star = "runs/star/best.safetensors";
    let checkpoint = "runs/star/checkpoints/step-00000012.safetensors";
    for (arguments, words) in [
        (
            vec!["eval-ood", "--theta", "none"],
            vec!["none", "No such file"],
        ),
        (
            vec!["eval-ood", "--theta", "junk"],
            vec!["junk", "not a safetensors file"],
        ),
        (
            vec!["eval-ood", "--theta", star, "--theta", star],
            vec![star, "both θ of `star`"],
        ),
        (
            vec!["eval-ood", "--theta", checkpoint],
            vec!["`checkpoint`"],
        ),
        (
            vec!["eval-ood", "--group", "colour"],
            vec!["`colour`", "nonlinearity"],
        ),
        (vec!["eval-ood", "--seeds", "0"], vec!["0 seeds"]),
        (
            vec!["eval-ood", "--out", "junk/result"],
            vec!["junk/result"],
        ),
        (vec!["eval-ood", "--device", "cuda:0"], vec!["cuda:0"]),
    ] {
        let text = fail(here, &arguments);
        for word in words {
            assert!(text.contains(word), "{arguments:?}: {text}");
        }
    }
    for option in ["--adam-learning-rate=0", "--learning-rate=0"] {
        let no_rate = output(here, &["eval-ood", option]);
        assert_eq!(no_rate.status.code(), Some(2));
        assert!(both(&no_rate).contains("above 0"), "{}", both(&no_rate));
    }
}
