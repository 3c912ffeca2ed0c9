//! The kernels' source, compiled for the CPU and run in the order of the plan, against the CPU
//! kernels of `lopt-kernels`.

mod case;
mod machine;
mod numbers;
mod program;
mod ptx;
mod reference;

use case::{Case, gradients};
use lopt_cuda::{Adam, Hidden, Number, Optimizer, PerParameter, Rule, Scale};
use lopt_kernels::per_param::{Exponent, Formula};
use numbers::{nearest, value};

fn shapes(all: &[&[usize]]) -> Vec<Vec<usize>> {
    all.iter().map(|dims| dims.to_vec()).collect()
}

/// Elements before, between, after and without the two largest dimensions; empty tensors, single
/// elements and odd sizes; each way to cut a tensor into tiles, with several tiles.
fn every_shape() -> Vec<Vec<usize>> {
    shapes(&[
        &[],
        &[1],
        &[0],
        &[37],
        &[9001],
        &[0, 5],
        &[1, 1],
        &[17, 33],
        &[33, 5],
        &[20, 16],
        &[2, 3, 40],
        &[9, 2, 5],
        &[5, 19, 3],
        &[6, 17, 2, 3],
        &[1, 5000],
        &[5000, 1],
        &[3, 7001],
        &[7001, 3],
        &[100, 301],
        &[301, 64],
        &[64, 3, 7, 7],
        &[3, 3, 40, 33],
        &[20, 200, 7],
        &[40, 3, 300],
        &[18, 18, 17, 17],
    ])
}

fn few_shapes() -> Vec<Vec<usize>> {
    shapes(&[&[], &[37], &[17, 33], &[5, 19, 3], &[64, 48], &[300, 20]])
}

fn scale(gradient_rms: Option<f64>) -> Option<Scale> {
    Some(Scale {
        initial: 0.1,
        learners: 6,
        tensor_weight: 0.5,
        slope_limit: 1.2,
        gradient_rms,
    })
}

fn scales() -> [Option<Scale>; 3] {
    [None, scale(None), scale(Some(0.01))]
}

fn named(scale: &Option<Scale>) -> String {
    match scale {
        Some(scale) => format!("scale with gradients {:?}", scale.gradient_rms),
        None => "no scale".into(),
    }
}

fn per_parameter(hidden: Hidden) -> PerParameter {
    let exponent = Exponent {
        scale: 0.2,
        shift: -0.1,
        per_tensor: false,
    };
    PerParameter {
        hidden,
        nominal: [0.01, 0.02, 0.03, 0.04],
        formula: Formula {
            nominal: [0.0; 4],
            nominal_preconditioned: true,
            nominal_exponent: exponent,
            blackbox: 0.003,
            blackbox_preconditioned: true,
            blackbox_exponent: exponent,
            learning_rate: 1.0,
        },
        time_limit: None,
        grows: false,
    }
}

fn star(hidden: Hidden) -> Optimizer {
    Optimizer {
        rule: Rule::PerParameter(per_parameter(hidden)),
        scale: None,
    }
}

fn adam() -> Optimizer {
    Optimizer {
        rule: Rule::Adam(Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }),
        scale: None,
    }
}

fn case(optimizer: Optimizer, shapes: Vec<Vec<usize>>) -> Case {
    Case {
        grads: gradients(&shapes, 3, 0.1),
        optimizer,
        shapes,
        number: Number::F32,
        written: false,
        skew: 0,
        fresh: false,
        start: 5,
        learning_rate: 0.7,
    }
}

fn check(what: &str, case: &Case) {
    println!("{what}: {:?}", case.check(what));
}

const WIDTHS: [Hidden; 4] = [Hidden::H4, Hidden::H8, Hidden::H16, Hidden::H32];

/// It takes as long as the other tests together. Tests start in the order of their names, so with this
/// one it runs beside them.
#[test]
fn all_kernels_compile_to_ptx() {
    ptx::check();
}

#[test]
fn every_shape_is_the_same() {
    for scale in scales() {
        for fresh in [false, true] {
            let optimizer = Optimizer {
                scale: scale.clone(),
                ..star(Hidden::H4)
            };
            let mut shapes = every_shape();
            if fresh {
                // The CPU kernels sum lines of one element in one lane; their sums over 5000 of
                // them are not accurate enough for second moments that have just started.
                shapes.retain(|dims| dims != &[5000, 1]);
            }
            let case = Case {
                fresh,
                ..case(optimizer, shapes)
            };
            let what = format!("every shape, fresh {fresh}, {}", named(&scale));
            check(&what, &case);
        }
    }
}

#[test]
fn every_width_is_the_same() {
    for hidden in WIDTHS {
        for scale in scales() {
            let optimizer = Optimizer {
                scale,
                ..star(hidden)
            };
            let what = format!("{hidden:?}, {}", named(&optimizer.scale));
            check(&what, &case(optimizer, few_shapes()));
        }
    }
}

/// The switches of STAR, one bit each; without its nominal term it is the blackbox.
fn switched(hidden: Hidden, bits: u32) -> Optimizer {
    let on = |bit: u32| bits >> bit & 1 == 1;
    let mut rule = per_parameter(hidden);
    rule.formula.nominal_preconditioned = on(0);
    rule.formula.blackbox_preconditioned = on(1);
    rule.formula.nominal_exponent.per_tensor = on(2);
    rule.formula.blackbox_exponent.per_tensor = on(3);
    if on(4) {
        rule.nominal = [0.0; 4];
    }
    if on(5) {
        rule.formula.blackbox = 0.0;
    }
    Optimizer {
        rule: Rule::PerParameter(rule),
        scale: if on(6) { scale(Some(1.0)) } else { None },
    }
}

#[test]
fn every_switch_is_the_same() {
    for bits in 0..128 {
        let optimizer = switched(Hidden::H4, bits);
        check(
            &format!("switches {bits:07b}"),
            &case(optimizer, few_shapes()),
        );
    }
    for hidden in WIDTHS {
        for bits in [0b0001111, 0b1001100] {
            let optimizer = switched(hidden, bits);
            let what = format!("switches {bits:07b}, {hidden:?}");
            check(&what, &case(optimizer, few_shapes()));
        }
    }
}

#[test]
fn steps_beyond_the_time_limit_are_the_same() {
    for (limit, grows) in [(6, true), (6, false), (1, true), (0, false), (1000, true)] {
        let mut rule = per_parameter(Hidden::H4);
        (rule.time_limit, rule.grows) = (Some(limit), grows);
        let optimizer = Optimizer {
            rule: Rule::PerParameter(rule),
            scale: scale(Some(1.0)),
        };
        let what = format!("time limit {limit}, grows {grows}");
        check(&what, &case(optimizer, few_shapes()));
    }
}

#[test]
fn every_online_scale_is_the_same() {
    for (learners, tensor_weight, slope_limit, gradient_rms) in [
        (1, 0.5, 1.2, None),
        (7, 0.25, 1.01, Some(1e-6)),
        (6, 0.0, 3.0, Some(1e6)),
        (6, 1.0, 1.2, None),
    ] {
        let scale = Some(Scale {
            initial: 0.3,
            learners,
            tensor_weight,
            slope_limit,
            gradient_rms,
        });
        for rule in [star(Hidden::H4).rule, adam().rule] {
            let optimizer = Optimizer {
                rule,
                scale: scale.clone(),
            };
            let what = format!("{learners} learners, w {tensor_weight}, {}", named(&scale));
            check(&what, &case(optimizer, few_shapes()));
        }
    }
}

#[test]
fn adam_is_the_same() {
    for scale in scales() {
        for number in [Number::F32, Number::F16, Number::BF16] {
            for start in [0, 5, 1000] {
                let optimizer = Optimizer {
                    scale: scale.clone(),
                    ..adam()
                };
                let shapes = if start == 5 {
                    every_shape()
                } else {
                    few_shapes()
                };
                let mut case = Case {
                    number,
                    written: number != Number::F32 && start == 5,
                    fresh: start == 0,
                    start,
                    ..case(optimizer, shapes)
                };
                round(&mut case);
                let what = format!("Adam, {number:?}, start {start}, {}", named(&scale));
                check(&what, &case);
            }
        }
    }
}

/// Rounds the gradients to the type of the case.
fn round(case: &mut Case) {
    if case.number != Number::F32 {
        let all = case.grads.iter_mut().flatten().flatten().flatten();
        all.for_each(|g| *g = value(case.number, nearest(case.number, *g)));
    }
}

#[test]
fn types_of_16_bits_have_a_master_copy() {
    for number in [Number::F16, Number::BF16] {
        for gradient_rms in [None, Some(0.01), Some(1.0)] {
            for (hidden, skew, written) in [
                (Hidden::H4, 0, false),
                (Hidden::H4, 4, true),
                (Hidden::H32, 0, true),
            ] {
                let optimizer = Optimizer {
                    scale: scale(gradient_rms),
                    ..star(hidden)
                };
                let mut case = Case {
                    number,
                    written,
                    skew,
                    ..case(optimizer, few_shapes())
                };
                round(&mut case);
                let what =
                    format!("{number:?}, {hidden:?}, skew {skew}, gradients {gradient_rms:?}");
                check(&what, &case);
            }
        }
    }
}

#[test]
fn addresses_need_no_alignment() {
    for scale in scales() {
        for skew in [0, 4] {
            let optimizer = Optimizer {
                scale: scale.clone(),
                ..star(Hidden::H4)
            };
            let case = Case {
                skew,
                ..case(optimizer, every_shape())
            };
            let what = format!("skew {skew}, {}", named(&scale));
            check(&what, &case);
        }
    }
}

#[test]
fn gradients_of_any_size_are_the_same() {
    for scale_of_g in [0.0, 1e-30, 1e-20, 1e-18, 1e-6, 1e3, 1e9, 1e17] {
        for rule in [star(Hidden::H4).rule, adam().rule] {
            for scale in [None, scale(Some(1.0))] {
                // The sums over lines are those of g² before it is scaled, which may be too small
                // for an f32.
                if scale.is_some() && (1e-30..1e-18).contains(&scale_of_g) {
                    continue;
                }
                for fresh in [false, true] {
                    let optimizer = Optimizer {
                        rule: rule.clone(),
                        scale: scale.clone(),
                    };
                    let what = format!(
                        "gradients {scale_of_g:e}, fresh {fresh}, {:?}, {}",
                        optimizer.hidden(),
                        named(&scale)
                    );
                    let case = Case {
                        grads: gradients(&few_shapes(), 3, scale_of_g),
                        fresh,
                        ..case(optimizer, few_shapes())
                    };
                    check(&what, &case);
                }
            }
        }
    }
}

/// Gradients that are much larger or smaller than those before them.
#[test]
fn gradients_of_changing_size_are_the_same() {
    let sizes = [1.0, 1.0, 300.0, 1e-4, 2.0, -1e5, 1.0, 1e-9, -3.0];
    for number in [Number::F32, Number::F16, Number::BF16] {
        for gradient_rms in [None, Some(0.01), Some(1.0)] {
            for rule in [star(Hidden::H4).rule, adam().rule] {
                let limited = |slope_limit| {
                    let optimizer = Optimizer {
                        rule: rule.clone(),
                        scale: scale(gradient_rms).map(|scale| Scale {
                            slope_limit,
                            ..scale
                        }),
                    };
                    let mut case = Case {
                        number,
                        fresh: true,
                        ..case(optimizer, few_shapes())
                    };
                    case.grads = gradients(&few_shapes(), sizes.len() as u64, 0.1);
                    for (grads, size) in case.grads.iter_mut().zip(sizes) {
                        let all = grads.iter_mut().flatten().flatten();
                        all.for_each(|g| *g *= size);
                    }
                    round(&mut case);
                    case
                };
                let case = limited(1.2);
                let what = format!("{number:?}, gradients {gradient_rms:?}");
                check(&what, &case);
                assert_ne!(case.learners(), limited(1e6).learners(), "{what}");
            }
        }
    }
}

#[test]
fn missing_gradients_change_nothing() {
    for scale in scales() {
        for rule in [star(Hidden::H4), switched(Hidden::H4, 0b0001100), adam()] {
            for first in [0, 1] {
                let optimizer = Optimizer {
                    scale: scale.clone(),
                    ..rule.clone()
                };
                let mut case = case(optimizer, few_shapes());
                case.grads = gradients(&few_shapes(), 4, 0.1);
                case.grads[first].fill(None);
                case.grads[1 - first][1] = None;
                case.grads[1 - first][3] = None;
                case.grads[2][0] = None;
                case.grads[2][4] = None;
                let what = format!("missing gradients, {}", named(&scale));
                check(&what, &case);
            }
        }
    }
}

#[test]
fn invalid_gradients_skip_the_step() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.1e18] {
        for bits in [0b0000011, 0b0001111] {
            for scale in scales() {
                let optimizer = Optimizer {
                    scale,
                    ..switched(Hidden::H4, bits)
                };
                let what = format!("{bad} in gradients, {}", named(&optimizer.scale));
                let mut case = case(optimizer, few_shapes());
                case.grads = gradients(&few_shapes(), 6, 0.1);
                for (step, tensor, at) in [(1, 3, 284), (2, 0, 0), (4, 4, 77), (4, 5, 5)] {
                    case.grads[step][tensor].as_mut().unwrap()[at] = bad;
                }
                check(&what, &case);
            }
        }
    }
}

#[test]
fn any_number_of_tensors_is_the_same() {
    for count in [1, 60, 300] {
        for rule in [switched(Hidden::H4, 0b0000111), adam()] {
            for scale in scales() {
                let optimizer = Optimizer {
                    scale,
                    ..rule.clone()
                };
                let what = format!("{count} tensors, {}", named(&optimizer.scale));
                let all: Vec<_> = few_shapes().into_iter().cycle().take(count).collect();
                check(&what, &case(optimizer, all));
            }
        }
    }
}

/// An invalid gradient among the tensors of one launch stops those of the other too.
#[test]
fn several_launches_are_one_step() {
    for rule in [switched(Hidden::H4, 0b0000111), adam()] {
        let optimizer = Optimizer {
            scale: scale(Some(1.0)),
            ..rule
        };
        let all: Vec<_> = few_shapes().into_iter().cycle().take(300).collect();
        let mut case = case(optimizer, all);
        case.grads = gradients(&case.shapes, 5, 0.1);
        case.grads[1][299].as_mut().unwrap()[7] = f32::NAN;
        case.grads[2][..224].fill(None);
        case.grads[3][0].as_mut().unwrap()[0] = f32::NAN;
        case.grads[4][224..].fill(None);
        check("several launches", &case);
    }
}

/// A tensor whose units have several tiles.
#[test]
fn large_tensors_are_the_same() {
    let large = shapes(&[&[2050, 2100], &[3]]);
    let mut case = case(switched(Hidden::H4, 0b1001111), large);
    case.grads.truncate(2);
    check("large", &case);
}

/// Parts of a kernel of which one reads what another wrote have a barrier between them.
#[test]
fn barriers_suffice() {
    if !machine::can_watch_threads() {
        return;
    }
    for rule in [switched(Hidden::H4, 0b0001111), adam()] {
        let optimizer = Optimizer {
            scale: scale(Some(1.0)),
            ..rule
        };
        let mut case = case(optimizer, shapes(&[&[37], &[5, 300, 3]]));
        case.grads.truncate(1);
        case.check_barriers();
    }
}
