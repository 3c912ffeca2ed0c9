//! Exact meta-gradients against the reference.

use std::process::Command;

use candle_core::{D, DType, Tensor};
use lopt_core::{Params, Result, Rng};
use lopt_meta::{MetaLoss, MetaObjective, meta_gradient};
use lopt_tasks::{Batch, Split, Task};
use lopt_tests::{Golden, flat, relative_error};
use serde_json::json;

use crate::golden_optimizers::optimizer;

/// Returns `true` if candle's second derivatives are enabled in this process. If not, runs `test`
/// in a process that enables them.
pub fn with_second_derivatives(test: &str) -> bool {
    const VARIABLE: &str = "CANDLE_GRAD_DO_NOT_DETACH";
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}{errors}");
    assert!(
        text.contains("1 passed"),
        "no test is called {test}: {text}"
    );
    false
}

/// The reference's 6-8-3 ReLU MLP in candle ops.
struct SmallMlp;

impl Task for SmallMlp {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        unreachable!("the start is given")
    }

    fn batch(&self, _: Split, _: &mut Rng) -> Result<Batch> {
        unreachable!("batches are given")
    }

    fn loss(&self, params: &Params, batch: &Batch) -> Result<Tensor> {
        let layer = |x: &Tensor, i: usize| -> Result<Tensor> {
            let product = x.matmul(params.get(&format!("w{i}"))?)?;
            Ok(product.broadcast_add(params.get(&format!("b{i}"))?)?)
        };
        let logits = layer(&layer(&batch[0], 0)?.relu()?, 1)?;
        let log_p = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
        Ok(candle_nn::loss::nll(&log_p, &batch[1])?)
    }
}

fn compare(precision: &str, dtype: DType, tolerance: f64, of_parts: f64) {
    let golden = Golden::open(&format!("metagrad_{precision}"));
    let named = golden.below("params0").into_iter();
    let named = named.map(|(name, t)| (name, t.to_dtype(dtype).unwrap()));
    let params = Params::new(named).unwrap();
    let batch = |t: usize| {
        // `final0` uses the batch of step 0.
        let row = |name: &str| golden.tensor(name).get(t % 20).unwrap();
        let labels = row("data/y").to_dtype(DType::U32).unwrap();
        Ok(vec![row("data/x").to_dtype(dtype).unwrap(), labels])
    };
    let first = |_: usize| batch(0);
    let mut compared = 0;
    for (tag, settings) in golden.metadata("configs").as_object().unwrap() {
        let mut settings = settings.clone();
        settings["theta"] = json!(format!("{tag}/theta"));
        let optimizer = optimizer(&golden, &settings);
        let state = optimizer.init(&params).unwrap();
        for steps in [1, 2, 5, 20] {
            for (loss, name) in [
                (MetaLoss::Mean, "avg"),
                (MetaLoss::Last, "last"),
                (MetaLoss::Final, "final0"),
            ] {
                let batch = |t: usize| if t == steps { first(t) } else { batch(t) };
                let objective = MetaObjective {
                    steps,
                    loss,
                    horizon: None,
                };
                let ours =
                    meta_gradient(&SmallMlp, &*optimizer, &params, &state, objective, &batch)
                        .unwrap();
                let at = format!("{precision} {tag}/T{steps}/{name}");
                let key = |what: &str| format!("{tag}/T{steps}/{name}/{what}");
                let meta_loss = flat(golden.tensor(&key("meta_loss")))[0];
                let error = (ours.meta_loss - meta_loss).abs() / meta_loss;
                assert!(error <= 1e-6, "{at}: meta-loss {error:e}");
                let (mut whole, mut worst) = (0f64, 0f64);
                let expected = golden.below(&key("meta_grad"));
                let largest = |t: &Tensor| flat(t).iter().fold(0f64, |max, x| max.max(x.abs()));
                let scale = expected.iter().map(|(_, t)| largest(t)).fold(0.0, f64::max);
                for (name, shape, start) in optimizer.theta().layout().parts() {
                    let part = &expected.iter().find(|(part, _)| part == name).unwrap().1;
                    // The last layer of the reference has outputs that are unused here.
                    let part = match shape.last() {
                        Some(&n) if n < part.dim(D::Minus1).unwrap() => {
                            part.narrow(D::Minus1, 0, n).unwrap()
                        }
                        _ => part.clone(),
                    };
                    let n = part.elem_count();
                    let ours = Tensor::from_slice(
                        &ours.gradient[start..start + n],
                        part.shape(),
                        part.device(),
                    );
                    let error = relative_error(&ours.unwrap(), &part) * largest(&part);
                    whole = whole.max(error / scale);
                    // Where the loss hardly depends on a part, its gradient is rounding error.
                    if largest(&part) > 1e-6 * scale {
                        worst = worst.max(error / largest(&part));
                    }
                }
                assert!(whole <= tolerance, "{at}: gradient {whole:e}");
                assert!(worst <= of_parts, "{at}: a part of the gradient {worst:e}");
                compared += 1;
                if loss == MetaLoss::Mean {
                    for (name, p) in ours.params.iter() {
                        let key = format!("{tag}/T{steps}/params/{name}");
                        let error = relative_error(p, golden.tensor(&key));
                        assert!(error <= 2e-5, "{at} {name}: {error:e}");
                    }
                }
            }
        }
    }
    assert_eq!(compared, 5 * 4 * 3);
}

#[test]
fn exact_meta_gradients_f64() {
    if with_second_derivatives("golden_metagrad::exact_meta_gradients_f64") {
        compare("f64", DType::F64, 1e-6, 1e-6);
    }
}

/// The reference in f32 is itself off by 2e-5, in single parts by 3e-4.
#[test]
fn exact_meta_gradients_f32() {
    if with_second_derivatives("golden_metagrad::exact_meta_gradients_f32") {
        compare("f32", DType::F32, 5e-5, 1e-3);
    }
}
