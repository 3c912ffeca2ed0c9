//! Evolution strategies against the reference: their arithmetic on given losses, complete
//! truncations with resets that start in the middle of an unroll, and full unrolls.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use lopt_core::{Params, Result, Rng, Workers};
use lopt_meta::{
    Alone, Driver, FullEs, FullEsConfig, GradientEstimator, Horizon, Persistence, StepRecord,
    TruncatedConfig, TruncatedEs, UnrollLoss, es_gradient, full_es_gradient, pes_gradient,
};
use lopt_tasks::{Batch, Split, Task};
use lopt_tests::{Golden, flat, relative_error};

use crate::inner_weight_decay::with_weight_decay;

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

const TASKS: usize = 5;

/// The losses of one file.
struct Losses {
    golden: Golden,
    sigma: f64,
    records: Vec<Vec<StepRecord>>,
}

impl Losses {
    fn open(file: &str) -> Self {
        let golden = Golden::open(file);
        let steps_by_tasks = |name: &str| {
            let tensor = golden.tensor(name).to_dtype(DType::F64).unwrap();
            tensor.to_vec2::<f64>().unwrap()
        };
        let [p, n, done, mask] = ["p_loss", "n_loss", "is_done", "mask"].map(steps_by_tasks);
        let record = |step: usize, task: usize| StepRecord {
            losses: [p[step][task] as f32, n[step][task] as f32],
            done: done[step][task] != 0.0,
            masked: mask[step][task] == 0.0,
        };
        let of_task = |task| (0..6).map(|step| record(step, task)).collect();
        Self {
            sigma: flat(golden.tensor("std"))[0],
            records: (0..TASKS).map(of_task).collect(),
            golden,
        }
    }

    fn fresh(&self, task: usize) -> Vec<f64> {
        vector(&self.golden, "vec_pos", task)
    }

    /// Compares the mean over tasks with `name/es_grad`.
    fn compare(&self, name: &str, tolerance: f64, of_task: impl Fn(usize) -> Vec<f64>) {
        let mut mean = vec![0.0; 7];
        for task in 0..TASKS {
            for (sum, g) in mean.iter_mut().zip(of_task(task)) {
                *sum += g / TASKS as f64;
            }
        }
        let part = |part| flat(self.golden.tensor(&format!("{name}/es_grad/{part}")));
        let error = error(&mean, &[part("a"), part("b")].concat());
        assert!(error <= tolerance, "{name}: meta-gradient {error:e}");
    }
}

/// Our losses are f32, so they match the f64 file only to f32 precision, and a difference of two
/// losses to about 1e-5.
#[test]
fn arithmetic() {
    for (file, tolerance) in [("estimators_f32", 1e-5), ("estimators_f64", 1e-5)] {
        let losses = Losses::open(file);
        let sigma = losses.sigma;
        for (sign, suffix) in [(None, ""), (Some(0.5), "_sign")] {
            losses.compare(&format!("pes{suffix}"), tolerance, |task| {
                let accumulated = vector(&losses.golden, "accumulator", task);
                let (records, fresh) = (&losses.records[task], losses.fresh(task));
                let (gradient, accumulator) =
                    pes_gradient(records, &accumulated, &fresh, sigma, sign);
                let name = format!("pes{suffix}/new_accumulator");
                let expected = vector(&losses.golden, &name, task);
                let error = error(&accumulator, &expected);
                assert!(
                    error <= 2e-6,
                    "{file}: accumulator of task {task}: {error:e}"
                );
                gradient
            });
            losses.compare(&format!("es{suffix}"), tolerance, |task| {
                es_gradient(&losses.records[task], &losses.fresh(task), sigma, sign)
            });
        }
        // These ignore `mask` and `is_done`.
        for (name, loss, clip, sign, from) in [
            ("avg", UnrollLoss::Mean, None, None, ""),
            ("min", UnrollLoss::Min, None, None, ""),
            ("last", UnrollLoss::Last, None, None, ""),
            ("avg_clip", UnrollLoss::Mean, Some(0.02), None, ""),
            ("last_sign", UnrollLoss::Last, None, Some(0.5), ""),
            ("avg_nan", UnrollLoss::Mean, None, None, "_nan"),
        ] {
            losses.compare(&format!("full_es_{name}"), tolerance, |task| {
                let of_half = |half: &str| {
                    let all = losses.golden.tensor(&format!("{half}_loss{from}"));
                    let all = all.to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
                    loss.of(all.iter().map(|step| step[task]))
                };
                let both = [of_half("p"), of_half("n")];
                full_es_gradient(both, &losses.fresh(task), sigma, clip, sign)
            });
        }
    }
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

/// The parts of θ below `prefix` as one vector, or those of one task if the parts have a row per
/// task.
fn flat_theta(golden: &Golden, prefix: &str, task: Option<usize>) -> Vec<f64> {
    let parts = golden.below(prefix).into_iter();
    parts
        .flat_map(|(_, t)| flat(&task.map_or(t.clone(), |task| t.get(task).unwrap())))
        .collect()
}

fn pipeline_task(golden: &Golden) -> Quartic {
    let tensor = |name: &str| golden.tensor(name).clone();
    let start = [
        ("w".to_owned(), tensor("quad/w0")),
        ("b".to_owned(), tensor("quad/b0")),
    ];
    Quartic {
        h: tensor("quad/h"),
        c: tensor("quad/c"),
        start: Params::new(start).unwrap(),
    }
}

/// The perturbations of three tasks below a prefix.
fn perturbations(golden: &Golden, prefix: &str) -> Vec<Vec<f32>> {
    let of_task = |task| {
        let xi = flat_theta(golden, prefix, Some(task));
        xi.iter().map(|&x| x as f32).collect()
    };
    (0..3).map(of_task).collect()
}

/// Three truncations of ten steps with resets every seven. The losses of the two halves differ by
/// about a thousandth, so a meta-gradient, a difference of f32 losses, is accurate to about 1e-4
/// of its largest entry.
fn truncations(persistence: Persistence, name: &str) {
    let golden = Golden::open("pes_es_pipeline_f32");
    let optimizer = with_weight_decay(&golden, "theta", golden.metadata("lopt"));
    let config = TruncatedConfig {
        tasks: 3,
        truncation: 10,
        sigma: golden.metadata("std").as_f64().unwrap(),
        horizon: Horizon::Constant { steps: 7 },
        sign: None,
    };
    let inner_steps = flat(golden.tensor(&format!("{name}/initial_inner_step")));
    let inner_steps: Vec<u64> = inner_steps.iter().map(|&t| t as u64).collect();
    let family = Arc::new(Arc::new(pipeline_task(&golden)));
    let workers = Workers::new(None);
    let estimator = TruncatedEs {
        persistence,
        config,
    };
    let driver = Driver::new(estimator, 0, family, workers, &optimizer, &Alone);
    let mut driver = driver.unwrap().with_inner_steps(&inner_steps);
    for round in 0..3 {
        let at = |what: &str| format!("{name}/round{round}/{what}");
        let perturbations = perturbations(&golden, &at("vec_pos"));
        let estimate = driver
            .estimate_with(&optimizer, round, &perturbations, &Alone)
            .unwrap();
        let expected = flat_theta(&golden, &at("es_grad"), None);
        let gradient = error(&estimate.gradient, &expected);
        assert!(
            gradient <= 2e-4,
            "{name} round {round}: meta-gradient {gradient:e}"
        );
        let expected = flat(golden.tensor(&at("mean_loss")));
        let mean_loss = error(&[estimate.meta_loss], &expected);
        assert!(
            mean_loss <= 1e-5,
            "{name} round {round}: mean loss {mean_loss:e}"
        );
        let snapshot = driver.snapshot().unwrap();
        for (tensor, ours) in &snapshot.tensors {
            let (pair, rest) = tensor
                .strip_prefix("pair")
                .unwrap()
                .split_once('/')
                .unwrap();
            let pair: usize = pair.parse().unwrap();
            let state = |what: &str| flat(&golden.tensor(&at(what)).get(pair).unwrap());
            // Truncated ES has moved the second half to the state of the first.
            let minus = match persistence {
                Persistence::Persistent => "n_state",
                Persistence::Forgetful => "p_state",
            };
            let expected = match rest {
                "perturbation" if persistence == Persistence::Persistent => {
                    flat_theta(&golden, &at("new_accumulator"), Some(pair))
                }
                "plus/params/w" => state("p_state/w"),
                "plus/params/b" => state("p_state/b"),
                "minus/params/w" => state(&format!("{minus}/w")),
                "minus/params/b" => state(&format!("{minus}/b")),
                _ => continue,
            };
            let error = error(&flat(ours), &expected);
            assert!(error <= 2e-5, "{name} round {round}: {tensor} {error:e}");
        }
    }
}

#[test]
fn pes_truncations() {
    truncations(Persistence::Persistent, "pes");
}

#[test]
fn es_truncations() {
    truncations(Persistence::Forgetful, "es");
}

#[test]
fn full_unrolls() {
    let golden = Golden::open("pes_es_pipeline_f32");
    let optimizer = with_weight_decay(&golden, "theta", golden.metadata("lopt"));
    for (name, loss) in [
        ("full_es_avg", UnrollLoss::Mean),
        ("full_es_last", UnrollLoss::Last),
    ] {
        let config = FullEsConfig {
            tasks: 3,
            sigma: golden.metadata("std").as_f64().unwrap(),
            horizon: Horizon::Constant { steps: 10 },
            loss,
            clip: None,
            sign: None,
        };
        let family = Arc::new(Arc::new(pipeline_task(&golden)));
        let (full, workers) = (FullEs(config), Workers::new(None));
        let mut driver = Driver::new(full, 0, family, workers, &optimizer, &Alone).unwrap();
        let perturbations = perturbations(&golden, &format!("{name}/vec_pos"));
        let estimate = driver
            .estimate_with(&optimizer, 0, &perturbations, &Alone)
            .unwrap();
        let expected = flat_theta(&golden, &format!("{name}/es_grad"), None);
        let gradient = error(&estimate.gradient, &expected);
        assert!(gradient <= 2e-5, "{name}: meta-gradient {gradient:e}");
        let expected = flat(golden.tensor(&format!("{name}/mean_loss")));
        let mean_loss = error(&[estimate.meta_loss], &expected);
        assert!(mean_loss <= 1e-5, "{name}: mean loss {mean_loss:e}");
    }
}
