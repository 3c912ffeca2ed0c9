//! The pages of commands, opened in a browser and compared with the other files.

#[path = "common/browser.rs"]
mod browser;
#[allow(dead_code)]
mod common;

use std::{env, fs, path::Path, process::Command};

use common::{succeed, tiny};
use serde_json::{Value, json};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn metrics(run_dir: &Path) -> Vec<Value> {
    let text = text(&run_dir.join("metrics.jsonl"));
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Whether the numbers are the same but for rounding.
fn close(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * b.abs(),
        _ => a == b,
    }
}

fn assert_points(points: &Value, expected: &[(Value, Value)], what: &str) {
    let points = points.as_array().unwrap_or_else(|| panic!("{what}"));
    assert_eq!(points.len(), expected.len(), "{what}");
    for (point, (x, y)) in points.iter().zip(expected) {
        assert!(
            close(&point[0], x) && close(&point[1], y),
            "{what}: {point} {x} {y}"
        );
    }
}

#[test]
fn a_meta_training_ends_with_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let told = succeed(here, &tiny("run", &[]));
    assert!(told.contains("page: run/report.html"), "{told}");
    let script = r#"
        const figure = figureOf("Training losses");
        result.before = shown(figure);
        const button = buttonOf(figure, "meta-loss");
        button.click();
        result.without = shown(figure);
        result.pressed = button.getAttribute("aria-pressed");
        button.click();
        result.again = shown(figure);
        const [chart] = chartsOf(figure);
        result.data = dataOf(chart);
        result.hovered = await hover(chart, 1, 0);
        const paper = () => getComputedStyle(document.body).backgroundColor;
        const theme = document.getElementById("theme");
        result.papers = [paper()];
        for (let i = 0; i < 2; i++) { theme.click(); result.papers.push(paper()); }
        result.lists = [...document.querySelectorAll("li")].map((li) => li.textContent);
    "#;
    let Some(result) = browser::run(&here.join("run/report.html"), script) else {
        return;
    };
    let labels = [
        "meta-loss",
        "held-out, mean of all steps",
        "held-out, last 10 % of the steps",
    ];
    assert_eq!(result["before"], json!([labels]));
    assert_eq!(result["without"], json!([labels[1..]]));
    assert_eq!(result["pressed"], "false");
    assert_eq!(result["again"], result["before"]);
    assert_eq!(result["papers"][0], result["papers"][1]);
    assert_ne!(result["papers"][1], result["papers"][2]);
    let metrics = metrics(&here.join("run"));
    let all = metrics
        .iter()
        .map(|m| (m["outer_step"].clone(), m["meta_loss"].clone()));
    assert_points(
        &result["data"][labels[0]],
        &all.collect::<Vec<_>>(),
        "meta-loss",
    );
    for (label, key) in [(labels[1], "mean_loss"), (labels[2], "final_loss")] {
        let evaluated = metrics.iter().filter(|m| !m["held_out"].is_null());
        let points = evaluated.map(|m| (m["outer_step"].clone(), m["held_out"][key].clone()));
        assert_points(&result["data"][label], &points.collect::<Vec<_>>(), label);
    }
    // The first held-out score, after four outer steps.
    assert_eq!(result["hovered"][0][0], "outer step: 4");
    let hovered = result["hovered"][1].to_string();
    let loss = metrics[3]["held_out"]["mean_loss"].as_f64().unwrap();
    let start = &format!("{loss:.6}")[..5];
    assert!(
        hovered.contains(&format!("{}: {start}", labels[1])),
        "{hovered}"
    );
    let best = told
        .lines()
        .find(|line| line.starts_with("best held-out score"));
    let lists = result["lists"].as_array().unwrap();
    assert!(
        lists.iter().any(|li| li.as_str() == best),
        "{best:?} {lists:?}"
    );
}

#[test]
fn an_evaluation_ends_with_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    succeed(here, &tiny("<b>&run", &[]));
    let arguments = [
        "eval-ood",
        "--seeds",
        "2",
        "--group",
        "in-distribution",
        "--adam-learning-rate",
        "1e-2",
        "--theta",
        "<b>&run/best.safetensors",
        "--out",
        "result",
    ];
    let told = succeed(here, &arguments);
    assert!(told.contains("page: result/report.html"), "{told}");
    let script = r#"
        const table = [...document.querySelectorAll("table")].find((t) => headOf(t, "final"));
        result.unsorted = rowsOf(table);
        const button = headOf(table, "final").querySelector("button");
        button.click();
        result.ascending = rowsOf(table);
        result.order = headOf(table, "final").getAttribute("aria-sort");
        button.click();
        result.descending = rowsOf(table);
        headOf(table, "optimizer").querySelector("button").click();
        result.byName = rowsOf(table);
        const curves = document.querySelector("figure[data-figure='1']");
        result.curves = dataOf(chartsOf(curves)[0]);
        result.before = shown(curves)[0];
        buttonOf(curves, "star").click();
        result.without = shown(curves)[0];
        result.ratios = dataOf(chartsOf(figureOf("Final training losses"))[0]);
    "#;
    let Some(result) = browser::run(&here.join("result/report.html"), script) else {
        return;
    };
    let report: Value = serde_json::from_str(&text(&here.join("result/report.json"))).unwrap();
    let done = &report["tasks"][0]["outcome"]["done"];
    let results = done["results"].as_array().unwrap();
    let final_loss = |of: &Value| {
        let losses = of["final_losses"].as_array().unwrap();
        losses
            .iter()
            .map(|loss| loss.as_f64().unwrap())
            .sum::<f64>()
            / losses.len() as f64
    };
    let column = |rows: &str, column: usize| -> Vec<String> {
        let rows = result[rows].as_array().unwrap();
        rows.iter()
            .map(|row| row[column].as_str().unwrap().to_owned())
            .collect()
    };
    let mut losses: Vec<f64> = results.iter().map(final_loss).collect();
    let written = |losses: &[f64]| -> Vec<String> {
        losses.iter().map(|loss| format!("{loss:.4}")).collect()
    };
    assert_eq!(column("unsorted", 3), written(&losses));
    losses.sort_by(f64::total_cmp);
    assert_eq!(column("ascending", 3), written(&losses));
    assert_eq!(result["order"], "ascending");
    losses.reverse();
    assert_eq!(column("descending", 3), written(&losses));
    assert!(column("byName", 1).is_sorted());
    // A band goes with its line.
    let count = |of: &str| result[of].as_array().unwrap().len();
    assert_eq!(count("before"), 3 * results.len());
    assert_eq!(count("without"), 3 * (results.len() - 1));
    let star = &results[0];
    assert_eq!(star["name"], "star");
    let points = star["curve"].as_array().unwrap().iter();
    let line: Vec<_> = points
        .clone()
        .map(|p| (p[0].clone(), p[1].clone()))
        .collect();
    assert_points(&result["curves"]["star"], &line, "curve");
    let highest: Vec<_> = points.map(|p| (p[0].clone(), p[3].clone())).collect();
    assert_points(&result["curves"]["star band"], &highest, "band");
    let adam = results.iter().find(|of| of["name"] == "adam").unwrap();
    let ratio = final_loss(star) / final_loss(adam);
    assert_points(
        &result["ratios"]["star"],
        &[(ratio.into(), 1.into())],
        "ratio",
    );
}

#[test]
fn reproduced_claims_end_with_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let claims = ["C1", "C2"];
    let arguments = [
        "reproduce",
        "C1",
        "C2",
        "--seeds",
        "2",
        "--outer-steps",
        "10",
        "--out",
        "r",
    ];
    let told = succeed(here, &arguments);
    assert!(told.contains("page: r/report.html"), "{told}");
    let script = r#"
        const tables = [...document.querySelectorAll("table")];
        result.overview = rowsOf(tables[0]);
        result.tables = tables.slice(1).map(rowsOf);
        result.lists = [...document.querySelectorAll("li")].map((li) => li.textContent);
        result.figures = [...document.querySelectorAll("figure")].map((f) => shown(f).length);
    "#;
    let Some(result) = browser::run(&here.join("r/report.html"), script) else {
        return;
    };
    for (index, claim) in claims.into_iter().enumerate() {
        let written = text(&here.join(format!("r/{claim}.md")));
        assert_eq!(result["overview"][index][0], claim);
        let verdict = result["overview"][index][2].as_str().unwrap();
        assert!(written.contains(&format!("**{verdict}**")), "{written}");
        for cell in result["tables"][index]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap())
        {
            assert!(written.contains(cell.as_str().unwrap()), "{claim}: {cell}");
        }
        assert!(result["figures"][index].as_u64() >= Some(1));
    }
    for criterion in result["lists"].as_array().unwrap() {
        let criterion = format!("* {}\n", criterion.as_str().unwrap());
        let written = claims.map(|claim| text(&here.join(format!("r/{claim}.md"))));
        assert!(
            written.iter().any(|text| text.contains(&criterion)),
            "{criterion}"
        );
    }
}

#[test]
fn studies_of_stability_end_with_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let told = succeed(here, &["stability"]);
    assert!(told.contains("page: stability/report.html"), "{told}");
    let script = r#"
        const figures = [...document.querySelectorAll("figure")];
        result.headings = [...document.querySelectorAll("h2")].map((h) => h.textContent);
        result.drawn = figures.map((figure) => chartsOf(figure).every((chart) => chart !== undefined));
        result.points = chartsOf(figures[0]).flatMap((chart) => chart.data.datasets)
          .filter((set) => set.kind === "points").flatMap((set) => set.data);
        result.cells = chartsOf(figures[1])[0].data.datasets.filter((set) => set.cells).length;
    "#;
    let Some(result) = browser::run(&here.join("stability/report.html"), script) else {
        return;
    };
    assert_eq!(result["headings"].as_array().unwrap().len(), 8);
    assert_eq!(result["drawn"], json!(vec![true; 8]));
    assert!(result["cells"].as_u64() > Some(0));
    let mut table = csv::Reader::from_path(here.join("stability/eigenvalues.csv")).unwrap();
    let records = table.records().map(|record| record.unwrap());
    let written: Vec<(f64, f64)> = records
        .map(|record| (record[4].parse().unwrap(), record[5].parse().unwrap()))
        .collect();
    let points = result["points"].as_array().unwrap();
    assert_eq!(points.len(), written.len());
    for point in points {
        let (x, y) = (point["x"].as_f64().unwrap(), point["y"].as_f64().unwrap());
        let near = |(re, im): &(f64, f64)| (re - x).abs() < 1e-5 && (im - y).abs() < 1e-5;
        assert!(written.iter().any(near), "{point}");
    }
}

/// Reads all scalars of a folder: steps and values by tag.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
scalars = lambda tag: [[e.step, e.value] for e in events.Scalars(tag)]
print(json.dumps({tag: scalars(tag) for tag in events.Tags()["scalars"]}))
"#;

#[test]
fn tensorboard_reads_the_events() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run_dir = here.join("run");
    succeed(here, &tiny("run", &["--tensorboard"]));
    let events = run_dir.join("tensorboard");
    let read = || -> Option<Value> {
        let python = env::var_os("LOPT_TENSORBOARD_PYTHON").unwrap_or_else(|| "python3".into());
        let mut python = Command::new(python);
        let output = python.args(["-c", READER]).arg(&events).output().ok()?;
        let error = String::from_utf8_lossy(&output.stderr);
        if error.contains("No module named 'tensorboard'") {
            println!("there is no tensorboard for python3: its events are not read");
            return None;
        }
        Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{error}")))
    };
    let check = || {
        let files = fs::read_dir(&events).unwrap().count();
        assert_eq!(files, 1);
        let Some(scalars) = read() else { return };
        let metrics = metrics(&run_dir);
        let tags = [
            ("meta_loss", "/meta_loss"),
            ("gradient_norm", "/gradient_norm"),
            ("theta_norm", "/theta_norm"),
            ("learning_rate", "/learning_rate"),
            ("inner_steps", "/inner_steps"),
            ("seconds", "/seconds"),
            ("held_out/mean_loss", "/held_out/mean_loss"),
            ("held_out/final_loss", "/held_out/final_loss"),
        ];
        assert_eq!(scalars.as_object().unwrap().len(), tags.len(), "{scalars}");
        for (tag, path) in tags {
            let has = metrics
                .iter()
                .filter_map(|m| Some((m, m.pointer(path)?.as_f64()?)));
            let expected: Vec<Value> = has
                .map(|(m, value)| json!([m["outer_step"], f64::from(value as f32)]))
                .collect();
            assert_eq!(scalars[tag], Value::Array(expected), "{tag}");
        }
    };
    check();
    // A resumed run goes on with its events, without repeating a step. An unfinished record of a
    // killed process does not matter.
    let file = fs::read_dir(&events)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let content = fs::read(&file).unwrap();
    fs::write(&file, &content[..content.len() - 5]).unwrap();
    succeed(
        here,
        &["meta-train", "--resume", "run", "--set", "outer.steps=16"],
    );
    assert_eq!(metrics(&run_dir).len(), 16);
    check();
}
