//! Trajectories of the blackbox and of STAR against the reference: 13 tensors of ranks 0 to 4 with
//! ties, and 12 gradients, among them zero ones and ones scaled by 1e6 and 1e-12.
//!
//! The reference's MLP for STAR has four outputs, in this order: the direction d, and the
//! magnitudes of the blackbox term, of the nominal term and of the inner weight decay. Its MLP for
//! the blackbox has the first two. Ours have three and two: without inner weight decay (as in the
//! paper's STAR) the fourth output is unused, and its column of the last layer is dropped. The
//! trajectories with inner weight decay, which lopt does not have, use all four, in an optimizer
//! that these tests build from the same parts.

use candle_core::DType;
use lopt_blackbox::Blackbox;
use lopt_core::{Grads, LearnedOptimizer};
use lopt_star::Star;
use lopt_tests::{Golden, params, relative_error, theta};
use serde_json::{Value, json};

use crate::inner_weight_decay::with_weight_decay;

/// Configurations that neither the paper nor lopt has: the blackbox term scaled by the gradient.
const SELF_NORMALIZED: [&str; 2] = ["big_selfnormalize@main", "big_selfnormalize_normalize@main"];

fn magnitude(aggregate: &Value) -> &'static str {
    if aggregate == &json!(true) {
        "per-tensor"
    } else {
        "per-parameter"
    }
}

/// Our configuration for the reference's settings, or for the defaults of its class (no nominal
/// term).
fn star(inputs: &Golden, settings: &Value) -> Star {
    let kwargs = &settings["kwargs"];
    let get = |key: &str, default: Value| kwargs.get(key).cloned().unwrap_or(default);
    let exp = get("exp_mult", json!([0.001, 0.001, 0.001]));
    let config = json!({
        "hidden": [4, 4],
        "nominal": get("nominal_grad_estimator", json!("AdamAggMo")).as_str().unwrap()
            .replace("AdamAggMo", "adam-aggmo").to_lowercase(),
        "magnitude-control": get("nominal_controller", json!(false)),
        "nominal-magnitude": magnitude(&get("aggregate_nom_magnitude", json!(false))),
        "blackbox-term": true,
        "precondition-blackbox": get("normalize_blackbox", json!(false)),
        "blackbox-magnitude": magnitude(&get("aggregate_magnitude", json!(false))),
        "multipliers": {
            "nominal-step": get("nominal_stepsize", json!(0.0)),
            "nominal-exp": exp[1],
            "blackbox-step": get("step_mult", json!(0.001)),
            "blackbox-exp": exp[0],
        },
    });
    let name = settings["theta"].as_str().unwrap();
    Star::new(theta(inputs, name, "star", config, 3)).unwrap()
}

fn blackbox(inputs: &Golden, settings: &Value) -> Blackbox {
    let kwargs = &settings["kwargs"];
    let size = kwargs["hidden_size"].as_u64().unwrap_or(4) as usize;
    let layers = kwargs["hidden_layers"].as_u64().unwrap_or(2) as usize;
    let config = json!({
        "hidden": vec![size; layers],
        "step-multiplier": kwargs["step_mult"].as_f64().unwrap_or(0.001),
        "exp-multiplier": kwargs["exp_mult"].as_f64().unwrap_or(0.001),
    });
    let name = settings["theta"].as_str().unwrap();
    Blackbox::new(theta(inputs, name, "blackbox", config, 2)).unwrap()
}

pub fn optimizer(inputs: &Golden, settings: &Value) -> Box<dyn LearnedOptimizer> {
    let kwargs = &settings["kwargs"];
    let weight_decay = kwargs["weight_decay"].as_f64().unwrap_or(0.0);
    if settings["class"] == "AdafacMLPLOpt" {
        Box::new(blackbox(inputs, settings))
    } else if weight_decay > 0.0 {
        let prefix = settings["theta"].as_str().unwrap();
        Box::new(with_weight_decay(inputs, prefix, kwargs))
    } else {
        Box::new(star(inputs, settings))
    }
}

fn compare(precision: &str, dtype: DType, tolerance: f64) {
    let inputs = Golden::open("inputs");
    let golden = Golden::open(&format!("trajectories_{precision}"));
    let mut compared = 0;
    let mut worst = 0f64;
    for (tag, settings) in golden.metadata("configs").as_object().unwrap() {
        if SELF_NORMALIZED.contains(&tag.as_str()) {
            continue;
        }
        let optimizer = optimizer(&inputs, settings);
        let grads = inputs.below(&format!("grads_{}", settings["grads"].as_str().unwrap()));
        let mut params = params(&inputs, dtype);
        let mut state = optimizer.init(&params).unwrap();
        for step in 1..=12 {
            let at_step = grads
                .iter()
                .map(|(_, g)| Some(g.get(step - 1).unwrap().to_dtype(dtype).unwrap()));
            optimizer
                .step(&mut state, &mut params, &Grads::new(at_step.collect()))
                .unwrap();
            for (name, p) in params.iter() {
                let key = format!("{tag}/step{step}/{name}");
                if golden.names().any(|name| name == key) {
                    let error = relative_error(p, golden.tensor(&key));
                    assert!(error <= tolerance, "{precision} {key}: {error:e}");
                    worst = worst.max(error);
                    compared += 1;
                }
            }
        }
    }
    println!("{precision}: {compared} tensors, worst {worst:e}");
    // 26 configurations, four of them with all 12 steps and the others with three; 13 tensors.
    assert_eq!(compared, (4 * 12 + 22 * 3) * 13);
}

#[test]
fn f32_trajectories_within_2e_5_of_the_largest_value() {
    compare("f32", DType::F32, 2e-5);
}

#[test]
fn f64_trajectories_within_1e_6_of_the_largest_value() {
    compare("f64", DType::F64, 1e-6);
}
