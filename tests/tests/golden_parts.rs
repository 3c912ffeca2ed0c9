//! Decays, step features, accumulators and features against the reference.

use candle_core::{DType, Device, Tensor};
use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Params};
use lopt_per_param::{
    accumulators::{Accumulators, Decays, Factored, accumulate, factored_dims, working_shape},
    features::{features, normalizer, step_features},
};
use lopt_star::Star;
use lopt_tests::{Golden, flat, params, relative_error};

const PRECISIONS: [(&str, DType, f64); 2] = [("f32", DType::F32, 2e-5), ("f64", DType::F64, 1e-6)];

fn decays(inputs: &Golden, theta: &str, dtype: DType) -> Decays {
    let part = |name: &str| {
        if theta == "theta_zero" {
            let n = if name == "rms" { 1 } else { 3 };
            return Tensor::zeros(n, dtype, &Device::Cpu).unwrap();
        }
        inputs
            .tensor(&format!("{theta}/{name}_decays"))
            .to_dtype(dtype)
            .unwrap()
    };
    Decays::new(&part("momentum"), &part("rms"), &part("adafactor")).unwrap()
}

/// Compares 1 − b, where f32 loses precision to cancellation: within 1e-6 of the reference in the
/// same precision, which is at most one unit in the last place of b in f32.
#[test]
fn decays_match_the_reference() {
    let inputs = Golden::open("inputs");
    for (precision, dtype, _) in PRECISIONS {
        let golden = Golden::open(&format!("decays_tanh_{precision}"));
        for theta in ["theta_zero", "theta_nominal", "theta_nominal_clip"] {
            let ours = decays(&inputs, theta, dtype);
            for (name, ours, clipped) in [
                ("momentum", &ours.momentum, false),
                ("rms", &ours.rms, true),
                ("adafactor", &ours.adafactor, true),
            ] {
                let golden = flat(golden.tensor(&format!("{theta}/{name}_decay_unclipped")));
                for (b, mut expected) in flat(ours).into_iter().zip(golden) {
                    if clipped {
                        expected = expected.clamp(0.0, 1.0);
                    }
                    let error = (b - expected).abs();
                    assert!(
                        error <= 1e-7,
                        "{precision} {theta} {name}: {b} {expected} {error:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn step_features_match_the_reference() {
    let golden = Golden::open("decays_tanh_f32");
    let steps = flat(golden.tensor("tanh_embedding/iterations"));
    let values = flat(golden.tensor("tanh_embedding/values"));
    for (t, expected) in steps.iter().zip(values.chunks(11)) {
        for (ours, expected) in step_features(*t as u64).iter().zip(expected) {
            assert!(
                (f64::from(*ours) - expected).abs() < 1e-6,
                "t = {t}: {ours} {expected}"
            );
        }
    }
}

#[test]
fn the_factored_dimensions_match_the_reference() {
    let inputs = Golden::open("inputs");
    let golden = inputs.metadata("factored_dims_d1_d0");
    for (name, p) in params(&inputs, DType::F32).iter() {
        let expected = golden[name].as_array().map(|pair| {
            (
                pair[0].as_u64().unwrap() as usize,
                pair[1].as_u64().unwrap() as usize,
            )
        });
        assert_eq!(factored_dims(p.dims()), expected, "{name}");
    }
}

/// The decay axis is last in the reference and first here.
fn decay_first(golden: &Tensor) -> Tensor {
    let last = golden.rank() - 1;
    let axes: Vec<usize> = std::iter::once(last).chain(0..last).collect();
    golden.permute(axes).unwrap()
}

fn gradient(inputs: &Golden, grads: &str, name: &str, step: usize, dtype: DType) -> Tensor {
    let g = inputs
        .tensor(&format!("grads_{grads}/{name}"))
        .get(step - 1)
        .unwrap();
    g.reshape(working_shape(g.dims()))
        .unwrap()
        .to_dtype(dtype)
        .unwrap()
}

fn compare_accumulators(golden: &Golden, key: &str, ours: &Accumulators, tolerance: f64) {
    let parts = match &ours.factored {
        Factored::RowCol { row, col } => vec![("fac_row", row), ("fac_col", col)],
        Factored::Diag(diag) => vec![("fac_diag", diag)],
    };
    for (part, tensor) in [("mom", &ours.momentum), ("rms", &ours.rms)]
        .into_iter()
        .chain(parts)
    {
        let error = relative_error(
            tensor,
            &decay_first(golden.tensor(&format!("{key}/{part}"))),
        );
        assert!(error <= tolerance, "{key}/{part}: {error:e}");
    }
}

#[test]
fn accumulators_match_the_reference() {
    let inputs = Golden::open("inputs");
    for (precision, dtype, tolerance) in PRECISIONS {
        let golden = Golden::open(&format!("accumulators_{precision}"));
        for (tag, grads, theta) in [
            ("main", "main", "theta_nominal"),
            ("zerofirst", "zerofirst", "theta_nominal"),
            ("main@clip", "main", "theta_nominal_clip"),
        ] {
            let decays = decays(&inputs, theta, dtype);
            for (name, p) in params(&inputs, dtype).iter() {
                let mut acc = Accumulators::zeros(p.dims(), dtype, &Device::Cpu).unwrap();
                for step in 1..=12 {
                    let g = gradient(&inputs, grads, name, step, dtype);
                    acc = accumulate(&acc, &decays, &g).unwrap();
                    if [1, 2, 4, 7, 12].contains(&step) {
                        let key = format!("{tag}/step{step}/{name}");
                        compare_accumulators(&golden, &key, &acc, tolerance);
                    }
                }
            }
        }
    }
}

/// φ before step `step` of the configuration whose features were recorded.
fn params_before(
    inputs: &Golden,
    precision: &str,
    grads: &str,
    step: usize,
    dtype: DType,
) -> Params {
    let start = params(inputs, dtype);
    if step == 1 {
        return start;
    }
    let golden = Golden::open(&format!("trajectories_{precision}"));
    let named = golden.below(&format!("star@{grads}/step{}", step - 1));
    start
        .with_tensors(named.into_iter().map(|(_, t)| t).collect())
        .unwrap()
}

/// Compares column by column, relative to the largest value of the column, because the 28 features
/// differ widely in magnitude. In f32, columns of roots of cancelled sums have the same tolerance.
#[test]
fn features_match_the_reference() {
    let inputs = Golden::open("inputs");
    for (precision, dtype, tolerance) in PRECISIONS {
        let golden = Golden::open(&format!("features_{precision}"));
        for (tag, grads, last) in [
            ("star@main", "main", 2),
            ("star@main", "main", 7),
            ("star@zerofirst", "zerofirst", 1),
        ] {
            if precision == "f64" && last != 2 {
                continue; // only made in f32
            }
            let decays = decays(&inputs, "theta_nominal", dtype);
            let before = params_before(&inputs, precision, grads, last, dtype);
            for (name, p) in before.iter() {
                let mut acc = Accumulators::zeros(p.dims(), dtype, &Device::Cpu).unwrap();
                for step in 1..=last {
                    let g = gradient(&inputs, grads, name, step, dtype);
                    acc = accumulate(&acc, &decays, &g).unwrap();
                }
                let g = gradient(&inputs, grads, name, last, dtype);
                let raw = features(&p.reshape(g.shape()).unwrap(), &g, &acc)
                    .unwrap()
                    .raw;
                let normalized = raw.broadcast_mul(&normalizer(&raw).unwrap()).unwrap();
                for (which, ours) in [("raw", raw), ("normalized", normalized)] {
                    let key = format!("{tag}/step{last}/{name}/{which}");
                    let golden = golden.tensor(&key).t().unwrap();
                    for column in 0..28 {
                        let error = relative_error(
                            &ours.get(column).unwrap(),
                            &golden.get(column).unwrap(),
                        );
                        assert!(
                            error <= tolerance,
                            "{precision} {key} column {column}: {error:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn there_are_197_and_202_meta_parameters() {
    assert_eq!(Blackbox::untrained().theta().values().len(), 197);
    assert_eq!(Star::untrained().theta().values().len(), 202);
}
