//! The kernels' source, compiled for the CPU and run in the order of the plan, against the CPU
//! kernels of `lopt-kernels`.

mod case;
mod machine;
mod numbers;
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

fn scale() -> Option<Scale> {
    Some(Scale {
        initial: 0.1,
        learners: 6,
        tensor_weight: 0.5,
    })
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
        skew: 0,
        fresh: false,
        start: 5,
        learning_rate: 0.7,
    }
}

fn check(what: &str, hidden: Hidden, case: &Case) {
    let errors = match hidden {
        Hidden::H4 => case.check::<4>(what),
        Hidden::H8 => case.check::<8>(what),
        Hidden::H16 => case.check::<16>(what),
        Hidden::H32 => case.check::<32>(what),
    };
    println!("{what}: {errors:?}");
}

const WIDTHS: [Hidden; 4] = [Hidden::H4, Hidden::H8, Hidden::H16, Hidden::H32];

#[test]
fn every_shape_is_the_same() {
    for scale in [None, scale()] {
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
            let what = format!("every shape, fresh {fresh}, scale {}", scale.is_some());
            check(&what, Hidden::H4, &case);
        }
    }
}

#[test]
fn every_width_is_the_same() {
    for hidden in WIDTHS {
        for scale in [None, scale()] {
            let optimizer = Optimizer {
                scale,
                ..star(hidden)
            };
            let what = format!("{hidden:?}, scale {}", optimizer.scale.is_some());
            check(&what, hidden, &case(optimizer, few_shapes()));
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
        scale: if on(6) { scale() } else { None },
    }
}

#[test]
fn every_switch_is_the_same() {
    for bits in 0..128 {
        let optimizer = switched(Hidden::H4, bits);
        check(
            &format!("switches {bits:07b}"),
            Hidden::H4,
            &case(optimizer, few_shapes()),
        );
    }
    for hidden in WIDTHS {
        for bits in [0b0001111, 0b1001100] {
            let optimizer = switched(hidden, bits);
            let what = format!("switches {bits:07b}, {hidden:?}");
            check(&what, hidden, &case(optimizer, few_shapes()));
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
            scale: scale(),
        };
        let what = format!("time limit {limit}, grows {grows}");
        check(&what, Hidden::H4, &case(optimizer, few_shapes()));
    }
}

#[test]
fn every_online_scale_is_the_same() {
    for (learners, tensor_weight) in [(1, 0.5), (7, 0.25), (6, 0.0), (6, 1.0)] {
        let scale = Some(Scale {
            initial: 0.3,
            learners,
            tensor_weight,
        });
        for rule in [star(Hidden::H4).rule, adam().rule] {
            let optimizer = Optimizer {
                rule,
                scale: scale.clone(),
            };
            let what = format!("{learners} learners, w {tensor_weight}");
            check(&what, Hidden::H4, &case(optimizer, few_shapes()));
        }
    }
}

#[test]
fn adam_is_the_same() {
    for scale in [None, scale()] {
        for number in [Number::F32, Number::F16, Number::BF16] {
            for start in [0, 5, 1000] {
                let optimizer = Optimizer {
                    scale: scale.clone(),
                    ..adam()
                };
                let mut case = Case {
                    number,
                    fresh: start == 0,
                    start,
                    ..case(optimizer, every_shape())
                };
                round(&mut case);
                let what = format!("Adam, {number:?}, start {start}, scale {}", scale.is_some());
                check(&what, Hidden::H4, &case);
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
        for (hidden, skew) in [(Hidden::H4, 0), (Hidden::H4, 2), (Hidden::H32, 0)] {
            let optimizer = Optimizer {
                scale: scale(),
                ..star(hidden)
            };
            let mut case = Case {
                number,
                ..case(optimizer, few_shapes())
            };
            case.skew = 2 * skew;
            round(&mut case);
            check(
                &format!("{number:?}, {hidden:?}, skew {skew}"),
                hidden,
                &case,
            );
        }
    }
}

#[test]
fn addresses_need_no_alignment() {
    let aligned = case(star(Hidden::H4), every_shape());
    let case = Case {
        skew: 4,
        ..case(star(Hidden::H4), every_shape())
    };
    check("aligned", Hidden::H4, &aligned);
    check("not aligned", Hidden::H4, &case);
}

#[test]
fn gradients_of_any_size_are_the_same() {
    for scale_of_g in [0.0, 1e-30, 1e-20, 1e-6, 1e3, 1e9, 1e17] {
        for optimizer in [star(Hidden::H4), adam()] {
            for fresh in [false, true] {
                let case = Case {
                    grads: gradients(&few_shapes(), 3, scale_of_g),
                    fresh,
                    ..case(optimizer.clone(), few_shapes())
                };
                let what = format!(
                    "gradients {scale_of_g:e}, fresh {fresh}, {:?}",
                    optimizer.hidden()
                );
                check(&what, Hidden::H4, &case);
            }
        }
    }
}

#[test]
fn missing_gradients_change_nothing() {
    for optimizer in [star(Hidden::H4), switched(Hidden::H4, 0b1001100), adam()] {
        let mut case = case(optimizer, few_shapes());
        case.grads[0][1] = None;
        case.grads[0][3] = None;
        case.grads[1].fill(None);
        case.grads[2][0] = None;
        case.grads[2][4] = None;
        check("missing gradients", Hidden::H4, &case);
    }
}

#[test]
fn invalid_gradients_skip_the_step() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.1e18] {
        for bits in [0b0000011, 0b1001111] {
            let mut case = case(switched(Hidden::H4, bits), few_shapes());
            case.grads = gradients(&few_shapes(), 6, 0.1);
            for (step, tensor, at) in [(1, 3, 284), (2, 0, 0), (4, 4, 77), (4, 5, 5)] {
                case.grads[step][tensor].as_mut().unwrap()[at] = bad;
            }
            check(&format!("{bad} in gradients"), Hidden::H4, &case);
        }
    }
}

#[test]
fn any_number_of_tensors_is_the_same() {
    for count in [1, 60, 300] {
        for optimizer in [switched(Hidden::H4, 0b1000111), adam()] {
            let all = few_shapes().into_iter().cycle().take(count).collect();
            check(
                &format!("{count} tensors"),
                Hidden::H4,
                &case(optimizer, all),
            );
        }
    }
}

/// A tensor whose units have several tiles.
#[test]
fn large_tensors_are_the_same() {
    let large = shapes(&[&[2050, 2100], &[3], &[100_000, 41]]);
    let mut case = case(switched(Hidden::H4, 0b1001111), large);
    case.grads.truncate(2);
    check("large", Hidden::H4, &case);
}

/// Parts of a kernel of which one reads what another wrote have a barrier between them.
#[test]
fn barriers_suffice() {
    if !machine::can_watch_threads() {
        return;
    }
    for optimizer in [switched(Hidden::H4, 0b1001111), adam()] {
        let mut case = case(optimizer, shapes(&[&[37], &[5, 19, 3], &[300, 20]]));
        case.grads.truncate(1);
        case.check_barriers::<4>();
    }
}
