//! Trains every task of the suites on the CPU and on a GPU, and writes the losses to the file that
//! the argument names, each as soon as it is measured. Tasks whose data are missing are left out.

use std::{
    error::Error,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use candle_core::Device;
use lopt_core::{Optimizer, Workers, file};
use lopt_eval::{Curve, train_all};
use lopt_star::Star;
use lopt_tasks::{DataStore, suite::Suite};
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Inner steps of each task.
const STEPS: u64 = 500;

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1);
    let path: PathBuf = path.ok_or("the argument must name the file")?.into();
    let gpu = lopt_core::device::parse("cuda:0")?;
    let star: Arc<dyn Optimizer> = Arc::new(Star::pretrained());
    let mut report = Map::new();
    for suite in [Suite::Quick, Suite::BeyondMlps, Suite::HeldOut] {
        for entry in suite.entries() {
            let mut measured = Map::new();
            let mut losses = vec![];
            for (name, device) in [("cpu", &Device::Cpu), ("cuda", &gpu)] {
                let started = Instant::now();
                let loaded = match entry.task.load(&mut DataStore::default(), device) {
                    Err(error) if error.is_missing_data() => break,
                    loaded => loaded?,
                };
                let (one, stop) = (Workers::ONE, AtomicBool::new(false));
                let stars = std::slice::from_ref(&star);
                let curves = train_all(&loaded.task, stars, STEPS, 1, one, &stop)?;
                let curve = &curves[0][0];
                losses.push(ends(curve));
                let seconds = started.elapsed().as_secs_f64();
                let of_device = json!({ "loss": ends(curve), "seconds": seconds });
                measured.insert(name.to_owned(), of_device);
            }
            if let [cpu, cuda] = losses[..] {
                let apart = |at: usize| (cuda[at] - cpu[at]).abs() / cpu[at];
                measured.insert("first losses apart".to_owned(), json!(apart(0)));
                measured.insert("last losses apart".to_owned(), json!(apart(1)));
            }
            if measured.is_empty() {
                continue;
            }
            println!("{}: {}", entry.title(), Value::Object(measured.clone()));
            report.insert(entry.title(), Value::Object(measured));
            let text = serde_json::to_string_pretty(&report)?;
            file::write_atomically(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// The mean losses of the first 20 steps, and of the last ones.
fn ends(curve: &Curve) -> [f64; 2] {
    [curve.mean_loss(20), curve.final_loss(STEPS as usize)]
}
