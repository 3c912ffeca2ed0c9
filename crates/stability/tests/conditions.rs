//! The paper's conditions on random matrices, and the counterexamples in their docs.

mod common;

use common::{orthogonal, positive, rng, symmetric, uniform};
use lopt_stability::{
    Dynamics, Effort, LinearUpdate, Quadratic,
    conditions::{
        Verdict, agg_mo, agg_mo_bound, cancelling_excess, heavy_ball, nominal, preconditioned,
        robust,
    },
    eigenvalues, leading_eigenvalues, spectral_radius,
    studies::agg_mo_radius,
};
use nalgebra::{DMatrix, DVector, dmatrix};

/// Tolerance for rounding at ρ = 1.
const ROUNDING: f64 = 1e-9;

fn radius(a: &DMatrix<f64>) -> f64 {
    spectral_radius(a).unwrap()
}

/// A = I − D(αI + P)H.
fn a(alpha: f64, learned: &DMatrix<f64>, hessian: &DMatrix<f64>) -> DMatrix<f64> {
    let identity = DMatrix::<f64>::identity(hessian.nrows(), hessian.nrows());
    &identity - (&identity * alpha + learned) * hessian
}

fn extremes(hessian: &DMatrix<f64>) -> (f64, f64) {
    let model = Quadratic::new(hessian.clone(), hessian * 0.0).unwrap();
    model.curvatures()
}

/// Counts the verdicts (stable, unstable, undecided); asserts that the first two are correct.
fn check(verdict: Verdict, radius: f64, counts: &mut [usize; 3], context: &str) {
    match verdict {
        Verdict::Stable(margin) => {
            counts[0] += 1;
            assert!(
                margin >= 0.0 && radius <= 1.0 + ROUNDING,
                "{context}: {radius}"
            );
        }
        Verdict::Unstable(excess) => {
            counts[1] += 1;
            assert!(
                excess > 0.0 && radius > 1.0 - ROUNDING,
                "{context}: {radius}"
            );
        }
        Verdict::Undecided(_) => counts[2] += 1,
    }
}

#[test]
fn theorem_1_on_random_matrices() {
    let rng = &mut rng(0);
    let mut counts = [0; 3];
    for case in 0..3000 {
        let n = 1 + case % 6;
        let hessian = positive(n, 0.1, 2.0, rng);
        let alpha = uniform(-0.2, 1.2, rng);
        let low = uniform(-1.5, 1.0, rng);
        let learned = symmetric(n, low, low + uniform(0.0, 3.0, rng), rng);
        let bounds = nominal(alpha, extremes(&hessian)).unwrap();
        let verdict = bounds.verdict_of(&learned).unwrap();
        check(
            verdict,
            radius(&a(alpha, &learned, &hessian)),
            &mut counts,
            "theorem 1",
        );
    }
    assert!(counts.iter().all(|&count| count > 200), "{counts:?}");
}

#[test]
fn lemma_2_on_random_matrices() {
    let rng = &mut rng(1);
    let mut counts = [0; 3];
    for case in 0..3000 {
        let n = 1 + case % 6;
        let hessian = positive(n, 0.1, 4.0, rng);
        let alpha = uniform(-0.2, 1.0, rng);
        let low = uniform(-1.2, 0.6, rng);
        let learned = symmetric(n, low, low + uniform(0.0, 2.0, rng), rng);
        let eigen = hessian.clone().symmetric_eigen();
        let roots = eigen.eigenvalues.map(|v| v.sqrt().recip());
        let preconditioner =
            &eigen.eigenvectors * DMatrix::from_diagonal(&roots) * eigen.eigenvectors.transpose();
        let model = Quadratic::new(hessian, DMatrix::identity(n, n)).unwrap();
        let update = LinearUpdate::new(alpha, learned.clone()).preconditioned(preconditioner);
        let found = Dynamics::new(&model, &update)
            .unwrap()
            .spectral_radius()
            .unwrap();
        let bounds = preconditioned(alpha, model.curvatures()).unwrap();
        check(
            bounds.verdict_of(&learned).unwrap(),
            found,
            &mut counts,
            "lemma 2",
        );
        // The upper bound is looser if and only if λ_max(H) > 1.
        let without = nominal(alpha, model.curvatures()).unwrap();
        assert_eq!(bounds.upper > without.upper, model.curvatures().1 > 1.0);
        assert_eq!(bounds.lower, without.lower);
    }
    assert!(counts.iter().all(|&count| count > 200), "{counts:?}");
}

/// If the top eigenvector of P is also that of H, the upper bound of theorem 1 is necessary.
#[test]
fn the_upper_bound_is_necessary_when_aligned() {
    let rng = &mut rng(2);
    for _ in 0..300 {
        let n = 4;
        let q = orthogonal(n, rng);
        let of = |values: [f64; 4]| {
            let matrix =
                &q * DMatrix::from_diagonal(&DVector::from_row_slice(&values)) * q.transpose();
            (&matrix + matrix.transpose()) * 0.5
        };
        let hessian = of([1.3, 0.5, 0.2, 0.9]);
        let alpha = 0.3;
        let bounds = nominal(alpha, extremes(&hessian)).unwrap();
        let by = uniform(0.001, 2.0, rng);
        let mut low = || uniform(bounds.lower, bounds.upper, rng);
        let learned = of([bounds.upper + by, low(), low(), low()]);
        assert!(radius(&a(alpha, &learned, &hessian)) > 1.0);
    }
}

#[test]
fn theorem_1_needs_its_assumptions() {
    // The upper bound is not necessary.
    let (hessian, learned) = (dmatrix![1.0, 0.0; 0.0, 0.1], dmatrix![0.0, 0.0; 0.0, 10.0]);
    let bounds = nominal(0.1, extremes(&hessian)).unwrap();
    assert!((bounds.upper - 1.9).abs() < 1e-12);
    assert!(matches!(bounds.verdict_of(&learned).unwrap(), Verdict::Undecided(by) if by > 8.0));
    assert!(radius(&a(0.1, &learned, &hessian)) < 1.0);
    // Without symmetry, real eigenvalues within the bounds are not sufficient.
    let (hessian, learned) = (dmatrix![1.0, 0.5; 0.5, 1.0], dmatrix![0.0, 100.0; 0.0, 0.0]);
    assert!(
        eigenvalues(&learned)
            .unwrap()
            .iter()
            .all(|v| v.norm() == 0.0)
    );
    let bounds = nominal(0.1, extremes(&hessian)).unwrap();
    assert!(bounds.verdict(0.0, 0.0).is_stable());
    assert!((radius(&a(0.1, &learned, &hessian)) - 49.2).abs() < 0.05);
    let error = bounds.verdict_of(&learned).unwrap_err().to_string();
    assert!(error.contains("symmetric"), "{error}");
}

#[test]
fn robust_bounds_hold_for_errors_that_commute_with_h() {
    let rng = &mut rng(3);
    let (mut stable, mut unstable) = (0, 0);
    for case in 0..3000 {
        let n = 1 + case % 5;
        let largest = uniform(0.2, 4.0, rng);
        // H is diagonal, or Δ is a multiple of I.
        let (hessian, error) = if case % 2 == 0 {
            let of = |low, high, rng: &mut _| {
                DMatrix::from_diagonal(&DVector::from_fn(n, |_, _| uniform(low, high, rng)))
            };
            (of(0.1, 1.5, rng), of(0.01 * largest, largest, rng))
        } else {
            let number = uniform(0.01 * largest, largest, rng);
            (positive(n, 0.1, 1.5, rng), DMatrix::identity(n, n) * number)
        };
        let alpha = uniform(0.0, 2.0 / extremes(&hessian).1, rng);
        let bounds = robust(alpha, extremes(&hessian), largest).unwrap();
        let learned = symmetric(n, 1.3 * bounds.lower, 1.3 * bounds.upper, rng);
        let verdict = bounds.verdict_of(&learned).unwrap();
        if verdict.is_stable() {
            stable += 1;
            let found = radius(&a(alpha, &(error * &learned), &hessian));
            assert!(found <= 1.0 + ROUNDING, "{found}");
        }
        if verdict.is_unstable() {
            // Instability is certain for the largest Δ only.
            unstable += 1;
            let found = radius(&a(alpha, &(&learned * largest), &hessian));
            assert!(found > 1.0 - ROUNDING, "{found}");
        }
    }
    assert!(stable > 300 && unstable > 300, "{stable} {unstable}");
}

#[test]
fn robust_bounds_need_commuting_errors() {
    let degrees = |x: f64| x.to_radians();
    let along = |angle: f64, value: f64, across: f64| {
        let (cos, sin) = (degrees(angle).cos(), degrees(angle).sin());
        let direction = DVector::from_row_slice(&[cos, sin]);
        let normal = DVector::from_row_slice(&[-sin, cos]);
        &direction * direction.transpose() * value + &normal * normal.transpose() * across
    };
    let (hessian, learned) = (along(60.0, 1.0, 0.01), along(-60.0, 1.9, 0.0));
    let error = DMatrix::from_diagonal(&DVector::from_row_slice(&[1.0, 0.01]));
    let bounds = robust(0.1, (0.01, 1.0), 1.0).unwrap();
    // 0 ≥ −0.1 and 1.9 ≤ 2 − 0.1, up to rounding.
    let margin = 1e-9;
    assert!(bounds.verdict(0.0, 1.9 - margin).is_stable());
    let found = radius(&a(0.1, &(error * learned), &hessian));
    assert!((found - 1.117).abs() < 0.001, "{found}");
    for (alpha, largest) in [(-0.1, 1.0), (2.1, 1.0), (0.1, 0.0), (0.1, f64::NAN)] {
        assert!(robust(alpha, (0.01, 1.0), largest).is_err());
    }
    assert!(nominal(0.1, (0.0, 1.0)).is_err() && nominal(0.1, (2.0, 1.0)).is_err());
    assert!(nominal(f64::NAN, (1.0, 1.0)).is_err());
}

#[test]
fn cancelling_leaves_an_excess() {
    let rng = &mut rng(4);
    let (hessian, target) = (positive(3, 0.1, 1.0, rng), symmetric(3, 0.0, 1.5, rng));
    let (alpha, error) = (0.7, 0.2);
    let identity = DMatrix::<f64>::identity(3, 3);
    let learned = (&target - &identity * alpha) * (1.0 - error);
    let expected =
        &identity - cancelling_excess(alpha, error, &hessian) - &target * &hessian * (1.0 - error);
    assert!((a(alpha, &learned, &hessian) - expected).amax() < 1e-14);
}

#[test]
fn heavy_ball_and_agg_mo_bounds_are_exact() {
    let rng = &mut rng(5);
    let mut counts = [0; 2];
    for case in 0..4000 {
        let decays: Vec<f64> = (0..1 + case % 4)
            .map(|_| uniform(-0.99, 0.99, rng))
            .collect();
        let step = uniform(-0.2, 4.4, rng);
        let verdict = agg_mo(step, &decays);
        let found = agg_mo_radius(step, &decays).unwrap();
        let margin = match verdict {
            Verdict::Stable(margin) | Verdict::Unstable(margin) | Verdict::Undecided(margin) => {
                margin
            }
        };
        if margin < 1e-6 {
            continue;
        }
        assert_eq!(
            verdict.is_stable(),
            found < 1.0,
            "{step} {decays:?}: {found}"
        );
        assert_ne!(verdict.is_stable(), verdict.is_unstable());
        counts[usize::from(verdict.is_stable())] += 1;
        if let [decay] = decays[..] {
            assert_eq!(verdict, heavy_ball(step, decay));
            assert!((agg_mo_bound(&decays) - 2.0 * (1.0 + decay)).abs() < 1e-12);
        }
    }
    assert!(counts.iter().all(|&count| count > 1000), "{counts:?}");
    // The margin is in units of ηλ.
    let Verdict::Stable(margin) = heavy_ball(3.0, 0.9) else {
        panic!("stable")
    };
    assert!((margin - 0.8).abs() < 1e-12);
    // At the bound the radius is 1; with |μ| ≥ 1 no step size is stable.
    let edge = agg_mo_radius(agg_mo_bound(&[0.0, 0.9, 0.99]), &[0.0, 0.9, 0.99]).unwrap();
    assert!((edge - 1.0).abs() < 1e-9);
    for decay in [1.0, -1.0, 1.5, f64::NAN] {
        assert!(heavy_ball(0.1, decay).is_unstable(), "{decay}");
    }
    assert!(heavy_ball(f64::NAN, 0.5).is_unstable());
    assert!(!heavy_ball(0.0, 0.5).is_stable());
}

/// An average that the step does not use only adds its decay to the eigenvalues.
#[test]
fn an_average_is_stable_by_itself() {
    let rng = &mut rng(6);
    for decay in [0.0, 0.5, 0.999] {
        let hessian = positive(2, 0.2, 1.0, rng);
        let model = Quadratic::new(hessian.clone(), DMatrix::identity(2, 2)).unwrap();
        let plain = LinearUpdate::new(0.5, symmetric(2, -0.2, 0.2, rng));
        let mut expected = eigenvalues(&a(0.5, &plain.learned, &hessian)).unwrap();
        expected.extend([decay; 2].map(nalgebra::Complex::from));
        let joint = plain.with_average(decay, DMatrix::zeros(2, 2));
        let found = Dynamics::new(&model, &joint)
            .unwrap()
            .eigenvalues()
            .unwrap();
        for value in expected {
            let nearest = found.iter().map(|f| (f - value).norm());
            assert!(nearest.fold(f64::INFINITY, f64::min) < 1e-9);
        }
    }
}

#[test]
fn arnoldi_finds_the_largest_eigenvalues() {
    let rng = &mut rng(7);
    for case in 0..30 {
        let n = 20 + case;
        let matrix = DMatrix::from_fn(n, n, |_, _| uniform(-1.0, 1.0, rng));
        let start = DVector::from_fn(n, |_, _| uniform(-1.0, 1.0, rng));
        let dense = eigenvalues(&matrix).unwrap();
        let product = |x: &DVector<f64>| Ok(&matrix * x);
        let all = Effort {
            products: n,
            tolerance: 0.0,
        };
        let found = leading_eigenvalues(start.clone(), all, product).unwrap();
        assert!((found.radius() - dense[0].norm()).abs() < 1e-8 * dense[0].norm());
        assert_eq!(found.products, n);
        // It stops once the first eigenvalue is within the tolerance, and returns the residual.
        let effort = Effort {
            products: n,
            tolerance: 1e-3,
        };
        let early = leading_eigenvalues(start, effort, product).unwrap();
        assert!(early.products <= n && early.residual <= 1e-3 * early.radius());
    }
}

#[test]
fn arnoldi_stops_at_an_invariant_subspace() {
    // Two distinct eigenvalues in a thousand dimensions: two products span an invariant subspace.
    let n = 1000;
    let diagonal = DVector::from_fn(n, |i, _| if i == 7 { 3.0 } else { 0.5 });
    let product = |x: &DVector<f64>| Ok(diagonal.component_mul(x));
    let start = DVector::from_element(n, 1.0);
    let found = leading_eigenvalues(start, Effort::default(), product).unwrap();
    assert_eq!(found.products, 2);
    assert!((found.radius() - 3.0).abs() < 1e-12 && found.residual < 1e-12);
    // The zero map.
    let zero = leading_eigenvalues(DVector::from_element(3, 1.0), Effort::default(), |x| {
        Ok(x * 0.0)
    });
    assert_eq!(zero.unwrap().radius(), 0.0);
    let error = leading_eigenvalues(DVector::zeros(3), Effort::default(), |x| Ok(x.clone()));
    assert!(error.unwrap_err().to_string().contains("must not be zero"));
    let nan = leading_eigenvalues(DVector::from_element(3, 1.0), Effort::default(), |x| {
        Ok(x * f64::NAN)
    });
    assert!(nan.unwrap_err().to_string().contains("not finite"));
}
