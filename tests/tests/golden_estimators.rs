//! PES against the reference: its arithmetic on given losses, and whole truncations with
//! resets, started in the middle of an unroll.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use lopt_core::{Params, Result, Rng, Workers};
use lopt_meta::{
    GradientEstimator, Horizon, Persistence, TruncatedConfig, TruncatedEs, pes_gradient,
    unroll::StepRecord,
};
use lopt_tasks::{Batch, Split, Task};
use lopt_tests::{Golden, flat, relative_error};

use crate::inner_weight_decay::WithWeightDecay;

/// The largest |a − b| relative to the largest |b|.
fn error(ours: &[f64], golden: &[f64]) -> f64 {
    let tensor = |values: &[f64]| Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
    relative_error(&tensor(ours), &tensor(golden))
}

/// The rows of `prefix/a` and `prefix/b` of one task, as one vector.
fn vector(golden: &Golden, prefix: &str, task: usize) -> Vec<f64> {
    let part = |name| {
        flat(
            &golden
                .tensor(&format!("{prefix}/{name}"))
                .get(task)
                .unwrap(),
        )
    };
    [part("a"), part("b")].concat()
}

fn arithmetic(file: &str, tolerance: f64) {
    let golden = Golden::open(file);
    let sigma = flat(golden.tensor("std"))[0];
    let steps_by_tasks = |name: &str| {
        golden
            .tensor(name)
            .to_dtype(candle_core::DType::F64)
            .unwrap()
            .to_vec2::<f64>()
            .unwrap()
    };
    let [p, n, done, mask] = ["p_loss", "n_loss", "is_done", "mask"].map(steps_by_tasks);
    let tasks = 5;
    let mut mean = vec![0.0; 7];
    for task in 0..tasks {
        let records: Vec<StepRecord> = (0..6)
            .map(|step| StepRecord {
                losses: [p[step][task] as f32, n[step][task] as f32],
                done: done[step][task] != 0.0,
                masked: mask[step][task] == 0.0,
            })
            .collect();
        let (gradient, accumulator) = pes_gradient(
            &records,
            &vector(&golden, "accumulator", task),
            &vector(&golden, "vec_pos", task),
            sigma,
            None,
        );
        for (sum, g) in mean.iter_mut().zip(&gradient) {
            *sum += g / tasks as f64;
        }
        let expected = vector(&golden, "pes/new_accumulator", task);
        assert!(
            error(&accumulator, &expected) <= tolerance,
            "{file}: accumulator of task {task}"
        );
    }
    let expected = [
        flat(golden.tensor("pes/es_grad/a")),
        flat(golden.tensor("pes/es_grad/b")),
    ];
    let error = error(&mean, &expected.concat());
    assert!(error <= tolerance, "{file}: meta-gradient {error:e}");
}

/// Our losses are f32, so the f64 file holds to f32 as well.
#[test]
fn pes_arithmetic() {
    arithmetic("estimators_f32", 2e-6);
    arithmetic("estimators_f64", 2e-6);
}

/// The pipeline's task: ½ Σ h·(w − c)² + ¼ Σ b⁴.
struct Quartic {
    h: Tensor,
    c: Tensor,
    start: Params,
}

impl Task for Quartic {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        Ok(self.start.clone())
    }

    fn batch(&self, _: Split, _: &mut Rng) -> Result<Batch> {
        Ok(vec![])
    }

    fn loss(&self, params: &Params, _: &Batch) -> Result<Tensor> {
        let w = ((params.get("w")? - &self.c)?.sqr()? * &self.h)?.sum_all()?;
        let b = params.get("b")?.sqr()?.sqr()?.sum_all()?;
        Ok(((w * 0.5)? + (b * 0.25)?)?)
    }
}

/// The parts of θ below `prefix`, one vector; of one task if the parts have a row each.
fn flat_theta(golden: &Golden, prefix: &str, task: Option<usize>) -> Vec<f64> {
    let parts = golden.below(prefix).into_iter();
    parts
        .flat_map(|(_, t)| flat(&task.map_or(t.clone(), |task| t.get(task).unwrap())))
        .collect()
}

/// Three truncations of ten steps with resets every seven: the losses differ between the
/// halves by about a thousandth of themselves, so a meta-gradient that is a difference of
/// f32 losses holds to about 1e-4 of its largest entry.
#[test]
fn pes_truncations() {
    let golden = Golden::open("pes_es_pipeline_f32");
    let tensor = |name: &str| golden.tensor(name).clone();
    let start = [
        ("w".to_owned(), tensor("quad/w0")),
        ("b".to_owned(), tensor("quad/b0")),
    ];
    let task = Quartic {
        h: tensor("quad/h"),
        c: tensor("quad/c"),
        start: Params::new(start).unwrap(),
    };
    let optimizer = WithWeightDecay::new(&golden, "theta", golden.metadata("lopt"));
    let config = TruncatedConfig {
        tasks: 3,
        truncation: 10,
        sigma: golden.metadata("std").as_f64().unwrap(),
        horizon: Horizon::Constant { steps: 7 },
        sign: None,
    };
    let inner_steps: Vec<u64> = flat(golden.tensor("pes/initial_inner_step"))
        .iter()
        .map(|&t| t as u64)
        .collect();
    let mut pes = TruncatedEs::new(
        Persistence::Persistent,
        config,
        0,
        Arc::new(Arc::new(task)),
        Workers::new(None),
        &optimizer,
    )
    .unwrap()
    .with_inner_steps(&inner_steps);
    for round in 0..3 {
        let at = |what: &str| format!("pes/round{round}/{what}");
        let perturbations: Vec<Vec<f32>> = (0..3)
            .map(|task| {
                flat_theta(&golden, &at("vec_pos"), Some(task))
                    .iter()
                    .map(|&x| x as f32)
                    .collect()
            })
            .collect();
        let estimate = pes.estimate_with(&optimizer, &perturbations).unwrap();
        let gradient = error(
            &estimate.gradient,
            &flat_theta(&golden, &at("es_grad"), None),
        );
        assert!(
            gradient <= 2e-4,
            "round {round}: meta-gradient {gradient:e}"
        );
        let mean_loss = error(
            &[estimate.meta_loss],
            &flat(golden.tensor(&at("mean_loss"))),
        );
        assert!(mean_loss <= 1e-5, "round {round}: mean loss {mean_loss:e}");
        let snapshot = pes.snapshot().unwrap();
        for (name, ours) in &snapshot.tensors {
            let (pair, rest) = name.strip_prefix("pair").unwrap().split_once('/').unwrap();
            let pair: usize = pair.parse().unwrap();
            let expected = match rest {
                "perturbation" => flat_theta(&golden, &at("new_accumulator"), Some(pair)),
                "plus/params/w" => flat(&golden.tensor(&at("p_state/w")).get(pair).unwrap()),
                "plus/params/b" => flat(&golden.tensor(&at("p_state/b")).get(pair).unwrap()),
                "minus/params/w" => flat(&golden.tensor(&at("n_state/w")).get(pair).unwrap()),
                "minus/params/b" => flat(&golden.tensor(&at("n_state/b")).get(pair).unwrap()),
                _ => continue,
            };
            let error = error(&flat(ours), &expected);
            assert!(error <= 2e-5, "round {round}: {name} {error:e}");
        }
    }
}
