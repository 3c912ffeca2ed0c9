//! The noisy quadratic model: closed forms against simulations and finite differences.

mod common;

use common::{positive, rng, symmetric, uniform, vector};
use lopt_stability::{
    Dynamics, Error, LinearUpdate, Quadratic, expected_meta_gradient, sampled_meta_gradient,
    spectral_radius,
};
use nalgebra::{DMatrix, DVector};

/// Tolerance of statistical comparisons: exceeded by chance once in 1.7 million values. The seeds
/// are fixed.
const STANDARD_ERRORS: f64 = 5.0;

fn model(n: usize, seed: u64) -> Quadratic {
    let rng = &mut rng(seed);
    Quadratic::new(positive(n, 0.2, 1.5, rng), positive(n, 0.01, 0.5, rng)).unwrap()
}

/// An update with a learned term (not symmetric), a preconditioner, a velocity and an average.
fn update(n: usize, seed: u64) -> LinearUpdate {
    let rng = &mut rng(seed);
    let small = |rng: &mut _| symmetric(n, -0.1, 0.1, rng);
    let mut update = LinearUpdate::new(
        0.2,
        small(rng) + vector(n, rng) * vector(n, rng).transpose() * 0.02,
    )
    .preconditioned(positive(n, 0.5, 1.0, rng))
    .with_average(0.8, small(rng));
    update
        .hidden
        .extend(LinearUpdate::heavy_ball(n, 0.05, 0.5).hidden);
    update
}

#[test]
fn without_averages_the_dynamics_are_a() {
    for seed in 0..20 {
        let n = 1 + seed as usize % 5;
        let model = model(n, seed);
        let learned = symmetric(n, -1.0, 1.0, &mut rng(seed + 100));
        let update = LinearUpdate::new(0.3, learned.clone());
        let dynamics = Dynamics::new(&model, &update).unwrap();
        let identity = DMatrix::<f64>::identity(n, n);
        let a = &identity - (&identity * 0.3 + &learned) * model.hessian();
        assert!((dynamics.matrix() - &a).amax() < 1e-14);
        assert!((dynamics.noise_input() - (&identity - &a)).amax() < 1e-14);
        // φ ← φ − (αI + P)·∇
        let (params, noise) = (vector(n, &mut rng(seed)), vector(n, &mut rng(seed + 7)));
        let by_hand = &params - (&identity * 0.3 + learned) * model.gradient(&params, &noise);
        assert!((dynamics.step(&params, &noise) - by_hand).amax() < 1e-12);
        // E φ_t = Aᵗφ₀ and Cov φ_t = Σ Aᵏ(I − A)Σ(I − A)ᵀ(Aᵏ)ᵀ.
        let moments = &dynamics.moments(&params, 4).unwrap()[4];
        let once = (&identity - &a) * model.noise() * (&identity - &a).transpose();
        let (mut power, mut sum) = (identity.clone(), DMatrix::zeros(n, n));
        for _ in 0..4 {
            sum += &power * &once * power.transpose();
            power = &a * power;
        }
        assert!((&moments.mean - &power * &params).amax() < 1e-12 * power.amax().max(1.0));
        assert!((&moments.covariance - &sum).amax() < 1e-12 * sum.amax().max(1.0));
    }
}

/// Compares with the step computed explicitly, as an optimizer would.
#[test]
fn the_joint_dynamics_equal_the_optimizer() {
    let n = 3;
    let (model, update) = (model(n, 1), update(n, 2));
    let dynamics = Dynamics::new(&model, &update).unwrap();
    let rng = &mut rng(3);
    let mut params = vector(n, rng);
    let mut averages = vec![DVector::<f64>::zeros(n); update.hidden.len()];
    let mut joint = dynamics.start(&params).unwrap();
    for _ in 0..10 {
        let noise = model.sample(rng);
        let gradient = model.gradient(&params, &noise);
        let mut step = &gradient * update.nominal + &update.learned * &gradient;
        for (average, hidden) in averages.iter_mut().zip(&update.hidden) {
            *average = &*average * hidden.decay + &gradient * hidden.input;
            step += &hidden.weight * &*average;
        }
        params -= update.preconditioner.as_ref().unwrap() * step;
        joint = dynamics.step(&joint, &noise);
        assert!((dynamics.params(&joint) - &params).amax() < 1e-12);
    }
}

#[test]
fn moments_and_losses_match_simulations() {
    const RUNS: usize = 20_000;
    const STEPS: usize = 6;
    let (model, update) = (model(3, 4), update(3, 5));
    let dynamics = Dynamics::new(&model, &update).unwrap();
    let start = vector(3, &mut rng(6));
    let rng = &mut rng(7);
    let mut ends: Vec<DVector<f64>> = vec![];
    let mut losses: Vec<Vec<f64>> = vec![];
    for _ in 0..RUNS {
        let run = dynamics.simulate(&start, STEPS, rng).unwrap();
        assert_eq!((run.params.len(), run.losses.len()), (STEPS + 1, STEPS));
        ends.push(run.params[STEPS].clone());
        losses.push(run.losses);
    }
    let check = |what: &str, expected: f64, values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.collect();
        let mean = values.iter().sum::<f64>() / RUNS as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / RUNS as f64;
        let error = (variance / RUNS as f64).sqrt();
        assert!(
            (mean - expected).abs() < STANDARD_ERRORS * error,
            "{what}: {mean} ± {error}, expected {expected}"
        );
    };
    let exact = &dynamics.moments(&start, STEPS).unwrap()[STEPS];
    for i in 0..3 {
        let mean = exact.mean[i];
        check("mean", mean, &mut ends.iter().map(|end| end[i]));
        for j in 0..3 {
            let products = ends.iter().map(|e| (e[i] - mean) * (e[j] - exact.mean[j]));
            check(
                "covariance",
                exact.covariance[(i, j)],
                &mut products.into_iter(),
            );
        }
    }
    let expected = dynamics.expected_losses(&start, STEPS).unwrap();
    for (t, &expected) in expected.iter().enumerate() {
        check("loss", expected, &mut losses.iter().map(|losses| losses[t]));
    }
}

#[test]
fn the_stationary_covariance_solves_the_lyapunov_equation() {
    for seed in 0..20 {
        let n = 1 + seed as usize % 4;
        let (model, update) = (model(n, seed), update(n, seed + 50));
        let dynamics = Dynamics::new(&model, &update).unwrap();
        assert!(dynamics.spectral_radius().unwrap() < 1.0);
        let x = dynamics.stationary_covariance().unwrap();
        let m = dynamics.matrix();
        let input = dynamics.noise_input();
        let again = m * &x * m.transpose() + input * model.noise() * input.transpose();
        assert!((&x - &again).amax() < 1e-12 * x.amax());
        let late = &dynamics.moments(&DVector::zeros(n), 3000).unwrap()[3000];
        assert!((&x - &late.covariance).amax() < 1e-10 * x.amax());
    }
    let model = model(2, 0);
    let unstable = Dynamics::new(&model, &LinearUpdate::new(-0.1, DMatrix::zeros(2, 2))).unwrap();
    let error = unstable.stationary_covariance().unwrap_err();
    assert!(
        matches!(error, Error::Unstable(radius) if radius > 1.0),
        "{error}"
    );
    let still = Dynamics::new(&model, &LinearUpdate::new(0.0, DMatrix::zeros(2, 2))).unwrap();
    assert!(still.stationary_covariance().is_err());
}

#[test]
fn meta_gradients_match_finite_differences() {
    const STEPS: usize = 7;
    let n = 3;
    let (model, update) = (model(n, 8), update(n, 9));
    let start = vector(n, &mut rng(10));
    let noise_rng = &mut rng(11);
    let noises: Vec<_> = (0..STEPS).map(|_| model.sample(noise_rng)).collect();
    let expected =
        |update: &LinearUpdate| expected_meta_gradient(&model, update, &start, STEPS).unwrap();
    let sampled =
        |update: &LinearUpdate| sampled_meta_gradient(&model, update, &start, &noises).unwrap();
    let losses = Dynamics::new(&model, &update).unwrap();
    let losses = losses.expected_losses(&start, STEPS).unwrap();
    let mean = losses.iter().sum::<f64>() / STEPS as f64;
    assert!((expected(&update).meta_loss - mean).abs() < 1e-12 * mean);
    for i in 0..n {
        for j in 0..n {
            let moved = |by: f64| {
                let mut update = update.clone();
                update.learned[(i, j)] += by;
                update
            };
            let step = 1e-5;
            let difference = |f: &dyn Fn(&LinearUpdate) -> f64| {
                (f(&moved(step)) - f(&moved(-step))) / (2.0 * step)
            };
            let of_expected = difference(&|u| expected(u).meta_loss);
            let of_sampled = difference(&|u| sampled(u).meta_loss);
            let (a, b) = (expected(&update).gradient, sampled(&update).gradient);
            assert!(
                (a[(i, j)] - of_expected).abs() < 1e-7 * a.amax(),
                "{of_expected}, {a}"
            );
            assert!(
                (b[(i, j)] - of_sampled).abs() < 1e-7 * b.amax(),
                "{of_sampled}, {b}"
            );
        }
    }
}

#[test]
fn sampled_meta_gradients_are_unbiased() {
    const RUNS: usize = 20_000;
    const STEPS: usize = 5;
    let (model, update) = (model(2, 12), update(2, 13));
    let start = vector(2, &mut rng(14));
    let rng = &mut rng(15);
    let expected = expected_meta_gradient(&model, &update, &start, STEPS)
        .unwrap()
        .gradient;
    let (mut sum, mut squares) = (DMatrix::<f64>::zeros(2, 2), DMatrix::<f64>::zeros(2, 2));
    for _ in 0..RUNS {
        let noises: Vec<_> = (0..STEPS).map(|_| model.sample(rng)).collect();
        let one = sampled_meta_gradient(&model, &update, &start, &noises)
            .unwrap()
            .gradient;
        squares += one.component_mul(&one);
        sum += one;
    }
    let mean = sum / RUNS as f64;
    let variance = squares / RUNS as f64 - mean.component_mul(&mean);
    let errors = variance.map(|v| (v / RUNS as f64).sqrt());
    for i in 0..4 {
        assert!(
            (mean[i] - expected[i]).abs() < STANDARD_ERRORS * errors[i],
            "{mean} ± {errors}, expected {expected}"
        );
    }
}

/// In one dimension: the expected loss after t steps is a polynomial of degree 2t in A.
#[test]
fn the_degree_of_the_meta_loss_is_2t() {
    let one = |x: f64| DMatrix::from_element(1, 1, x);
    let model = Quadratic::new(one(1.0), one(0.3)).unwrap();
    for t in 0..4_u32 {
        // H = 1 and α = 0: A = 1 − P.
        let loss = |a: f64| {
            let dynamics = Dynamics::new(&model, &LinearUpdate::new(0.0, one(1.0 - a))).unwrap();
            let losses = dynamics
                .expected_losses(&DVector::from_element(1, 2.0), 4)
                .unwrap();
            losses[t as usize]
        };
        let difference = |order: u32| -> f64 {
            let mut values: Vec<f64> = (0..=order).map(|i| loss(f64::from(i) * 0.5)).collect();
            for _ in 0..order {
                values = values.windows(2).map(|w| w[1] - w[0]).collect();
            }
            values[0]
        };
        assert!(difference(2 * t + 1).abs() < 1e-9, "t = {t}");
        assert!(difference(2 * t).abs() > 1e-3, "t = {t}");
    }
}

/// For ρ > 1 the meta-gradient grows as ρ^{2T}/T, up to a polynomial; for ρ < 1 it does not grow.
#[test]
fn unstable_dynamics_have_exploding_meta_gradients() {
    let one = |x: f64| DMatrix::from_element(1, 1, x);
    let model = Quadratic::new(one(1.0), one(0.1)).unwrap();
    let norm = |radius: f64, steps: usize| {
        let update = LinearUpdate::new(0.0, one(1.0 - radius));
        let start = DVector::from_element(1, 1.0);
        let found = expected_meta_gradient(&model, &update, &start, steps).unwrap();
        found.gradient.norm()
    };
    let growth = (norm(1.1, 401) / norm(1.1, 400)).ln();
    assert!((growth - 2.0 * 1.1_f64.ln()).abs() < 0.01, "{growth}");
    assert!(norm(0.9, 400) < norm(0.9, 20));
}

#[test]
fn invalid_input_is_reported() {
    let identity = DMatrix::<f64>::identity(2, 2);
    let message = |hessian: &DMatrix<f64>, noise: &DMatrix<f64>| {
        Quadratic::new(hessian.clone(), noise.clone())
            .unwrap_err()
            .to_string()
    };
    let skew = DMatrix::from_row_slice(2, 2, &[1.0, 0.5, 0.0, 1.0]);
    assert!(message(&skew, &identity).contains("the Hessian H must be symmetric"));
    assert!(message(&identity, &-&identity).contains("positive semidefinite"));
    assert!(message(&(&identity * 0.0), &identity).contains("positive definite"));
    assert!(message(&(&identity * f64::NAN), &identity).contains("not finite"));
    assert!(message(&identity, &DMatrix::identity(3, 3)).contains("n×n"));
    assert!(message(&DMatrix::zeros(2, 3), &identity).contains("2×3"));
    assert!(message(&DMatrix::zeros(0, 0), &DMatrix::zeros(0, 0)).contains("n ≥ 1"));
    let model = Quadratic::new(identity.clone(), identity.clone()).unwrap();
    let error = Dynamics::new(&model, &LinearUpdate::new(0.1, DMatrix::zeros(3, 3))).unwrap_err();
    assert!(
        error.to_string().contains("the learned matrix P is 3×3"),
        "{error}"
    );
    let error = Dynamics::new(&model, &LinearUpdate::new(f64::NAN, identity.clone())).unwrap_err();
    assert!(error.to_string().contains("finite"), "{error}");
    let dynamics = Dynamics::new(&model, &LinearUpdate::new(0.1, identity)).unwrap();
    let error = dynamics
        .simulate(&DVector::zeros(3), 1, &mut rng(0))
        .unwrap_err();
    assert!(error.to_string().contains("φ₀ has 3"), "{error}");
}

/// A Σ of rank 1.
#[test]
fn degenerate_noise_is_accepted() {
    let line = DVector::from_vec(vec![1.0, -2.0]);
    let noise = &line * line.transpose();
    let model = Quadratic::new(DMatrix::identity(2, 2), noise).unwrap();
    let sample = model.sample(&mut rng(0));
    assert!((sample[1] + 2.0 * sample[0]).abs() < 1e-7 && sample[0] != 0.0);
}

#[test]
fn spectral_radii_of_known_matrices() {
    let rotation = DMatrix::from_row_slice(2, 2, &[0.0, -2.0, 2.0, 0.0]);
    assert!((spectral_radius(&rotation).unwrap() - 2.0).abs() < 1e-12);
    let jordan = DMatrix::from_row_slice(2, 2, &[1.0, 1e6, 0.0, 1.0]);
    assert!((spectral_radius(&jordan).unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(spectral_radius(&DMatrix::zeros(3, 3)).unwrap(), 0.0);
    assert_eq!(spectral_radius(&DMatrix::zeros(0, 0)).unwrap(), 0.0);
    let diagonal = uniform(-3.0, 3.0, &mut rng(1));
    let diagonal = DMatrix::from_diagonal(&DVector::from_vec(vec![diagonal, 0.1]));
    assert!((spectral_radius(&diagonal).unwrap() - diagonal[(0, 0)].abs().max(0.1)).abs() < 1e-12);
}
