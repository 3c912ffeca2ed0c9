//! The instances of each kernel against the portable one, which checks every access.
//!
//! Small enough for Miri: `cargo +nightly miri test -p lopt-kernels` checks the portable
//! instance, with `RUSTFLAGS=-Ctarget-feature=+avx2,+fma` that of AVX2 too.

use lopt_kernels::{
    Adam, Gradient, Isa, Target, UpdateSum, adam, inner_products,
    mlp::{Activation, Layer, Mlp, Workspace},
    one_thread,
    per_param::{Decoded, Exponent, Factored, Formula, Scratch, Shape, State, Weights},
};

/// Of the largest entry.
const TOLERANCE: f32 = 2e-6;

/// Numbers in \[−1, 1) from a linear congruential generator.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vec(&mut self, n: usize, scale: f32) -> Vec<f32> {
        (0..n).map(|_| scale * self.next()).collect()
    }

    fn array<const N: usize>(&mut self, scale: f32) -> [f32; N] {
        std::array::from_fn(|_| scale * self.next())
    }
}

fn same(what: &str, ours: &[f32], portable: &[f32]) {
    assert_eq!(ours.len(), portable.len(), "{what}");
    let largest = portable.iter().fold(0f32, |max, x| max.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(portable).enumerate() {
        let near = (a - b).abs() <= TOLERANCE * largest;
        assert!(near, "{what}[{i}]: {a} and {b}, the largest {largest}");
    }
}

/// Every instance but the portable one.
fn others() -> Vec<Isa> {
    let all = Isa::all().into_iter();
    all.filter(|isa| *isa != Isa::PORTABLE).collect()
}

fn adam_constants() -> Adam {
    Adam {
        learning_rate: 0.01,
        beta1: 0.9,
        one_minus_beta1: 0.1,
        beta2: 0.99,
        one_minus_beta2: 0.01,
        correction1: 2.0,
        correction2: 5.0,
        epsilon: 1e-8,
    }
}

#[test]
fn adam_is_the_same_for_all() {
    let constants = adam_constants();
    for n in [0, 1, 7, 8, 15, 16, 17, 33, 100] {
        let run = |isa| {
            let mut numbers = Numbers(n as u64);
            let (mut p, mut m) = (numbers.vec(n, 1.0), numbers.vec(n, 0.1));
            let (g, mut v) = (numbers.vec(n, 1.0), numbers.vec(n, 1.0));
            v.iter_mut().for_each(|v| *v = v.abs());
            adam(
                isa,
                &constants,
                Target::parameters(&mut p),
                g[..].into(),
                &mut m,
                &mut v,
            );
            [p, m, v]
        };
        let portable = run(Isa::PORTABLE);
        for isa in others() {
            for (ours, portable) in run(isa).iter().zip(&portable) {
                same(&format!("{isa}, {n} numbers"), ours, portable);
            }
        }
    }
}

/// Dimensions, and the (second largest, largest) of them.
type Dims = (&'static [usize], Option<(usize, usize)>);

/// Elements before, between, after and without the two largest dimensions; lengths around
/// those of the vectors.
const SHAPES: [Dims; 11] = [
    (&[], None),
    (&[1], None),
    (&[37], None),
    (&[1, 1], Some((0, 1))),
    (&[17, 33], Some((0, 1))),
    (&[33, 5], Some((1, 0))),
    (&[20, 16], Some((1, 0))),
    (&[2, 3, 40], Some((1, 2))),
    (&[9, 2, 5], Some((2, 0))),
    (&[5, 19, 3], Some((0, 1))),
    (&[6, 17, 2, 3], Some((0, 1))),
];

fn weights<const H: usize>() -> Weights<H> {
    let mut numbers = Numbers(7);
    let scale = 0.8 * (4.0 / H as f32).sqrt();
    Weights {
        momentum_decays: [0.9, 0.99, 0.999],
        rms_decay: 0.999,
        adafactor_decays: [0.9, 0.99, 0.999],
        w0: std::array::from_fn(|_| numbers.array(0.5)),
        b0: numbers.array(0.1),
        w1: std::array::from_fn(|_| numbers.array(scale)),
        b1: numbers.array(0.1),
        w2: std::array::from_fn(|_| numbers.array(scale)),
        b2: numbers.array(0.1),
    }
}

fn formulas() -> Vec<Formula> {
    let exponent = |per_tensor| Exponent {
        scale: 0.2,
        shift: -0.1,
        per_tensor,
    };
    let mut all = vec![];
    for (preconditioned, per_tensor) in [(true, false), (false, false), (true, true), (false, true)]
    {
        all.push(Formula {
            nominal: [0.01, 0.02, 0.03, 0.04],
            nominal_preconditioned: preconditioned,
            nominal_exponent: exponent(per_tensor),
            blackbox: 0.01,
            blackbox_preconditioned: !preconditioned,
            blackbox_exponent: exponent(!per_tensor),
            learning_rate: 1.0,
        });
    }
    all
}

/// Two steps from a state in the middle of training; the parameters, then the slots.
fn steps(isa: Isa, mut theta: Decoded, formula: &Formula, (dims, factored): Dims) -> Vec<Vec<f32>> {
    let shape = Shape::new(dims, factored);
    let n = shape.elements();
    let mut numbers = Numbers(n as u64);
    let mut positive = |n| -> Vec<f32> {
        let values = numbers.vec(n, 1e-2);
        values.iter().map(|x| x.abs()).collect()
    };
    let mut rms = positive(n);
    let mut row = positive(3 * shape.rows());
    let mut col = positive(3 * shape.columns());
    let mut diagonal = positive(3 * n);
    let (mut p, mut momentum) = (numbers.vec(n, 0.3), numbers.vec(3 * n, 0.1));
    let mut sum = Numbers(n as u64 + 1).vec(n, 0.01);
    let mut scratch = Scratch::default();
    for t in 0..2 {
        let values = numbers.vec(n, 1.0);
        let g = Gradient {
            values: &values,
            factor: 0.1,
        };
        let factored = match factored {
            Some(_) => Factored::RowCol {
                row: &mut row,
                col: &mut col,
            },
            None => Factored::Diagonal(&mut diagonal),
        };
        let state = State {
            momentum: &mut momentum,
            rms: &mut rms,
            factored,
        };
        theta.set_step(t);
        let (target, scratch) = (target(&mut p, &mut sum, t), &mut scratch);
        theta.update(isa, &one_thread, formula, &shape, target, g, state, scratch);
    }
    // The sum with the parameters: a single small update has a larger relative error.
    vec![[p, sum].concat(), momentum, rms, row, col, diagonal]
}

/// The parameters alone in the first step, with a sum of updates in the second.
fn target<'a>(p: &'a mut [f32], sum: &'a mut [f32], step: u64) -> Target<'a> {
    let (change, scale) = (0.01, 1.1);
    let sum = (step > 0).then_some(UpdateSum { sum, change, scale });
    Target { p, sum }
}

/// A kernel moves p by change·Δ + scale·u and Δ by u.
#[test]
fn an_update_sum_collects_the_updates() {
    let constants = adam_constants();
    for n in [1, 16, 33] {
        let mut numbers = Numbers(n as u64);
        let (start, g, old) = (
            numbers.vec(n, 1.0),
            numbers.vec(n, 1.0),
            numbers.vec(n, 1.0),
        );
        for isa in Isa::all() {
            let run = |target: Target| {
                let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
                adam(isa, &constants, target, g[..].into(), &mut m, &mut v);
            };
            let (mut plain, mut p, mut sum) = (start.clone(), start.clone(), old.clone());
            run(Target::parameters(&mut plain));
            run(target(&mut p, &mut sum, 1));
            for i in 0..n {
                let u = plain[i] - start[i];
                assert!((sum[i] - old[i] - u).abs() < 1e-6);
                assert!((p[i] - start[i] - 0.01 * old[i] - 1.1 * u).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn inner_products_are_sums_of_products() {
    for n in [0, 1, 15, 16, 17, 40, 100, 20_000] {
        if cfg!(miri) && n > 100 {
            continue;
        }
        let mut numbers = Numbers(n as u64);
        let (a, b) = (numbers.vec(n, 1.0), numbers.vec(n, 1.0));
        let exact = |a: &[f32]| -> f64 {
            let products = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b));
            products.sum()
        };
        let exact = [exact(&a), exact(&b)];
        for isa in Isa::all() {
            let (of_a_and_b, of_b) = inner_products(isa, &one_thread, &a, &b);
            for (ours, exact) in [of_a_and_b, of_b].into_iter().zip(exact) {
                let error = (ours - exact).abs();
                assert!(error <= 1e-6 * n as f64, "{isa} {n}: {ours} {exact}");
            }
        }
    }
}

/// The formulas that are run; under Miri the first and the last switch every term both ways.
fn per_parameter_updates<const H: usize>(dims: &[Dims])
where
    Decoded: From<Weights<H>>,
{
    let theta = Decoded::from(weights());
    let every = if cfg!(miri) { 3 } else { 1 };
    for formula in formulas().iter().step_by(every) {
        for &dims in dims {
            let steps = |isa| steps(isa, theta.clone(), formula, dims);
            let portable = steps(Isa::PORTABLE);
            assert!(portable.iter().flatten().all(|x| x.is_finite()));
            for isa in others() {
                for (ours, portable) in steps(isa).iter().zip(&portable) {
                    let what = format!("{isa}, hidden {H}, {:?}, {formula:?}", dims.0);
                    same(&what, ours, portable);
                }
            }
        }
    }
}

#[test]
fn per_parameter_updates_are_the_same_for_all() {
    per_parameter_updates::<4>(&SHAPES);
}

#[test]
fn per_parameter_updates_of_wider_networks_are_the_same_for_all() {
    per_parameter_updates::<8>(&SHAPES[..5]);
    per_parameter_updates::<16>(&SHAPES[2..5]);
    per_parameter_updates::<32>(&SHAPES[2..5]);
}

/// The loss and the gradient; parameters lie as weight, bias, weight, bias.
fn mlp(isa: Isa, sizes: &[usize], activation: Activation, batch: usize) -> (f32, Vec<f32>) {
    let mut end = 0;
    let layer = |pair: &[usize]| {
        let weight = end;
        end += (pair[0] + 1) * pair[1];
        Layer {
            inputs: pair[0],
            outputs: pair[1],
            weight,
            bias: end - pair[1],
        }
    };
    let layers: Vec<Layer> = sizes.windows(2).map(layer).collect();
    let mut numbers = Numbers(batch as u64);
    let (params, x) = (numbers.vec(end, 0.5), numbers.vec(batch * sizes[0], 1.0));
    let classes = sizes[sizes.len() - 1];
    let labels: Vec<u8> = (0..batch).map(|i| (i * 7 % classes) as u8).collect();
    let mut grads = vec![0.0; end];
    let mut workspace = Workspace::default();
    let loss = Mlp::new(layers, activation).loss_and_grad(
        isa,
        &params,
        &x,
        &labels,
        &mut grads,
        &mut workspace,
    );
    (loss, grads)
}

#[test]
fn networks_are_the_same_for_all() {
    // Blocks of 8 and of 6 rows, and single ones.
    const BATCHES: &[usize] = if cfg!(miri) { &[15] } else { &[1, 13, 15, 16] };
    const SIZES: [&[usize]; 4] = [&[5, 3], &[20, 16, 10], &[9, 17, 33, 4], &[6, 1, 2]];
    for sizes in SIZES {
        for &batch in BATCHES {
            for activation in Activation::ALL {
                let (loss, grads) = mlp(Isa::PORTABLE, sizes, activation, batch);
                assert!(loss.is_finite() && grads.iter().any(|g| *g != 0.0));
                for isa in others() {
                    let what = format!("{isa}, {sizes:?}, {activation:?}, batch {batch}");
                    let (ours, our_grads) = mlp(isa, sizes, activation, batch);
                    same(&what, &[ours], &[loss]);
                    same(&what, &our_grads, &grads);
                }
            }
        }
    }
}
