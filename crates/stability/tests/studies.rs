//! The sweeps of `studies` against the functions they are built from.

mod common;

use common::{rng, uniform};
use lopt_stability::{
    Dynamics, LinearUpdate, Quadratic,
    conditions::nominal,
    spectral_radius,
    studies::{
        Means, RandomLearned, agg_mo_radius, meta_gradient_growth, shrinking_nominal, stable_share,
    },
};
use nalgebra::{DMatrix, DVector};

#[test]
fn stabilising_measures_enter_the_dynamics() {
    let random = RandomLearned::new(20, (0.05, 2.0), 0.5, &mut rng(0)).unwrap();
    let d = &random.preconditioner;
    let identity = DMatrix::<f64>::identity(20, 20);
    assert!((d * d * random.model.hessian() - &identity).amax() < 1e-9);
    let means = Means {
        name: "all",
        nominal: 0.5,
        decayed: 0.4,
        preconditioned: true,
    };
    let a = &identity - d * (&identity * 0.5 + &random.learned * 0.4) * random.model.hessian();
    let found = random.eigenvalues(&means).unwrap();
    assert_eq!(found.len(), 20);
    assert!((found[0].norm() - spectral_radius(&a).unwrap()).abs() < 1e-10);
    assert!(RandomLearned::new(3, (2.0, 1.0), 0.5, &mut rng(0)).is_err());
}

#[test]
fn shares_of_orientations_agree_with_theorem_1() {
    let rng = &mut rng(1);
    let (mut all, mut some, mut none) = (0, 0, 0);
    for _ in 0..2000 {
        let curvatures = (uniform(0.1, 1.0, rng), 1.0);
        let alpha = uniform(-0.2, 1.5, rng);
        let low = uniform(-2.0, 1.5, rng);
        let learned = (low, low + uniform(0.0, 3.0, rng));
        let share = stable_share(alpha, curvatures, learned);
        let verdict = nominal(alpha, curvatures)
            .unwrap()
            .verdict(learned.0, learned.1);
        assert!(
            !verdict.is_stable() || share == 1.0,
            "{alpha} {learned:?}: {share}"
        );
        assert!(
            !verdict.is_unstable() || share == 0.0,
            "{alpha} {learned:?}: {share}"
        );
        match share {
            1.0 => all += 1,
            0.0 => none += 1,
            _ => some += 1,
        }
    }
    assert!(all > 100 && some > 100 && none > 100, "{all} {some} {none}");
}

#[test]
fn meta_gradients_grow_with_the_radius() {
    let model = Quadratic::new(DMatrix::identity(2, 2), DMatrix::identity(2, 2) * 0.1).unwrap();
    let start = DVector::from_element(2, 1.0);
    let of = |radius: f64, steps| {
        let update = LinearUpdate::new(0.0, DMatrix::identity(2, 2) * (1.0 - radius));
        meta_gradient_growth(&model, &update, &start, steps, 200, &mut rng(2)).unwrap()
    };
    let (short, long) = (of(1.1, 10), of(1.1, 60));
    assert!(long.mean > 100.0 * short.mean && long.deviation > 100.0 * short.deviation);
    let (short, long) = (of(0.8, 10), of(0.8, 60));
    assert!(long.mean < short.mean && long.deviation < short.deviation);
    assert!(long.deviation_error > 0.0 && long.deviation_error < long.deviation);
}

#[test]
fn a_nominal_term_that_does_not_shrink_gives_the_constant_dynamics() {
    let model = Quadratic::new(DMatrix::identity(2, 2), DMatrix::identity(2, 2) * 0.1).unwrap();
    let learned = DMatrix::identity(2, 2) * -0.1;
    let start = DVector::from_element(2, 1.0);
    let constant = shrinking_nominal(&model, &learned, (0.5, 1.0), &start, 50).unwrap();
    let dynamics = Dynamics::new(&model, &LinearUpdate::new(0.5, learned.clone())).unwrap();
    let expected = dynamics.expected_losses(&start, 50).unwrap();
    for (a, b) in constant.iter().zip(expected) {
        assert!((a - b).abs() < 1e-12 * b);
    }
    // Once α_t is below −λ_min(P), the loss grows again.
    let shrinking = shrinking_nominal(&model, &learned, (0.5, 0.9), &start, 100).unwrap();
    assert!(shrinking[99] > 10.0 * shrinking[15] && constant[49] < constant[0]);
}

#[test]
fn radius_of_heavy_ball() {
    // Heavy ball: z² − (1 + μ − ηλ)z + μ = 0.
    let (step, decay): (f64, f64) = (0.3, 0.5);
    let half = 0.5 * (1.0 + decay - step);
    let expected = half + (half * half - decay).max(0.0).sqrt();
    let expected = if half * half < decay {
        decay.sqrt()
    } else {
        expected
    };
    assert!((agg_mo_radius(step, &[decay]).unwrap() - expected).abs() < 1e-12);
}
