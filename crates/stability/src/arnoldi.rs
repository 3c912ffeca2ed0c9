use nalgebra::{Complex, DMatrix, DVector};

use crate::{Error, Result, eigen::leading_pair};

/// What [`leading_eigenvalues`] found.
#[derive(Clone, Debug)]
pub struct Leading {
    /// Ritz values, the largest in absolute value first; those behind the first few are rough.
    pub values: Vec<Complex<f64>>,
    /// ‖M·y − λ·y‖ of the first with its Ritz vector y, ‖y‖ = 1: λ is an eigenvalue of a matrix
    /// that differs from M by that much.
    pub residual: f64,
    /// Products with M that it took.
    pub products: usize,
}

impl Leading {
    /// |λ| of the first.
    pub fn radius(&self) -> f64 {
        self.values.first().map_or(0.0, |value| value.norm())
    }
}

/// When [`leading_eigenvalues`] stops.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The most products with M; each keeps one vector.
    pub products: usize,
    /// Of the first eigenvalue: residual over |λ|.
    pub tolerance: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            products: 120,
            tolerance: 1e-6,
        }
    }
}

/// How often the Ritz values are looked at.
const LOOK_EVERY: usize = 10;

/// The largest eigenvalues of a linear map x ↦ M·x by Arnoldi's iteration from `start`, which
/// orthogonalises x, Mx, M²x, … (twice, against rounding) and takes the eigenvalues of M in
/// their span.
///
/// # Errors
/// Those of `product`; if `start` is zero or anything becomes not finite.
pub fn leading_eigenvalues(
    start: DVector<f64>,
    effort: Effort,
    mut product: impl FnMut(&DVector<f64>) -> Result<DVector<f64>>,
) -> Result<Leading> {
    let norm = start.norm();
    if !(norm > 0.0 && norm.is_finite()) {
        return Err(Error::Unfit("Arnoldi's start must not be zero".to_owned()));
    }
    let most = effort.products.min(start.len()).max(1);
    let mut basis = vec![start / norm];
    let mut hessenberg = DMatrix::<f64>::zeros(most + 1, most);
    for j in 0..most {
        let mut next = product(&basis[j])?;
        let scale = next.norm();
        if !scale.is_finite() {
            return Err(Error::Unfit(
                "the linearised map gave a number that is not finite".to_owned(),
            ));
        }
        for _ in 0..2 {
            for (i, vector) in basis.iter().enumerate() {
                let along = vector.dot(&next);
                hessenberg[(i, j)] += along;
                next.axpy(-along, vector, 1.0);
            }
        }
        let rest = next.norm();
        let closed = rest <= 1e-14 * scale;
        let size = j + 1;
        if closed || size == most || size % LOOK_EVERY == 0 {
            let inner = hessenberg.view((0, 0), (size, size)).into_owned();
            let (values, last_entry) = leading_pair(&inner)?;
            let residual = rest * last_entry;
            if closed || size == most || residual <= effort.tolerance * values[0].norm() {
                return Ok(Leading {
                    values,
                    residual,
                    products: size,
                });
            }
        }
        hessenberg[(j + 1, j)] = rest;
        basis.push(next / rest);
    }
    unreachable!("the last round returns")
}
