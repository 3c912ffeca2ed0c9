//! Pages in a headless Chromium.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// What a script leaves in `result` in a page in a file; `None` without Chromium.
pub fn run(page: &Path, script: &str) -> Option<Value> {
    let html = fs::read_to_string(page).expect("a page");
    check(&html);
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("page.html");
    fs::write(&copy, with_script(&html, script)).unwrap();
    open(&format!("file://{}", copy.display()))
}

/// The page with a script that puts something into `result`.
pub fn with_script(html: &str, script: &str) -> String {
    let script = format!(
        "<script>{COMMON}\nsetTimeout(async () => {{ const result = {{}};\n\
         try {{ {script} }} catch (error) {{ result.error = String(error); }}\n\
         const pre = document.createElement('pre'); pre.id = 'result';\n\
         pre.textContent = JSON.stringify(result); document.body.append(pre); }}, 1000);</script>"
    );
    let html = html.replace("<title>", &format!("<script>{FRAMES}</script><title>"));
    html.replace("</body>", &(script + "</body>"))
}

/// Opens a page [`with_script`].
pub fn open(url: &str) -> Option<Value> {
    if Command::new("chromium").arg("--version").output().is_err() {
        println!("there is no chromium: {url} is not opened");
        return None;
    }
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=20000",
            "--window-size=1200,8000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("chromium runs");
    let dom = String::from_utf8_lossy(&output.stdout);
    let result = dom
        .split_once("<pre id=\"result\">")
        .and_then(|(_, rest)| rest.split_once("</pre>"));
    let (result, _) = result.unwrap_or_else(|| {
        panic!("no result: {}", String::from_utf8_lossy(&output.stderr));
    });
    let result = result
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&nbsp;", "\u{a0}")
        .replace("&amp;", "&");
    let result: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!(result["error"], Value::Null, "{url}");
    Some(result)
}

/// Chromium draws no frames here.
const FRAMES: &str = "window.requestAnimationFrame = (draw) => setTimeout(draw, 16);";

/// Functions for scripts. Without frames, figures are not drawn when they come into view, but printing
/// draws them all.
const COMMON: &str = r#"
dispatchEvent(new Event("beforeprint"));
dispatchEvent(new Event("afterprint"));
const figureOf = (title) => [...document.querySelectorAll("figure")]
  .find((figure) => figure.querySelector("h3").textContent === title);
const chartsOf = (figure) => [...figure.querySelectorAll(".panel canvas")].map((c) => Chart.getChart(c));
const shown = (figure) => chartsOf(figure).map((chart) =>
  chart.data.datasets.filter((_, i) => chart.isDatasetVisible(i)).map((set) => set.label));
const dataOf = (chart) => Object.fromEntries(chart.data.datasets
  .filter((set) => set.end !== "low")
  .map((set) => [set.label + (set.end ? " band" : ""), set.data.map(({x, y}) => [x, y])]));
const buttonOf = (figure, label) => [...figure.querySelectorAll(".legend button")]
  .find((button) => button.textContent === label);
const rowsOf = (table) => [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.textContent));
const headOf = (table, name) => [...table.tHead.rows[0].cells].find((c) => c.textContent === name);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const hover = async (chart, index, point) => {
  const { x, y } = chart.getDatasetMeta(index).data[point];
  const { left, top } = chart.canvas.getBoundingClientRect();
  const place = { clientX: left + x, clientY: top + y, bubbles: true };
  chart.canvas.dispatchEvent(new MouseEvent("mousemove", place));
  await pause(500);
  return [chart.tooltip.title, chart.tooltip.body.map((part) => part.lines).flat()];
};
"#;

/// The page needs nothing from elsewhere and is small.
fn check(html: &str) {
    assert!(html.len() < 3_000_000, "{}", html.len());
    assert!(html.contains("default-src 'none'"));
    for attribute in ["src=\"", "href=\"", "url(", "@import", "import("] {
        let values = html.split(attribute).skip(1);
        for value in values {
            assert!(!value.starts_with("http"), "{attribute}");
        }
    }
    assert!(!html.contains("<link") && !html.contains("<iframe"));
}
