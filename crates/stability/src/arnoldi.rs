use nalgebra::{Complex, DMatrix, DVector};

use crate::{Error, Result, eigen::leading_pair};

/// The result of [`leading_eigenvalues`].
#[derive(Clone, Debug)]
pub struct Leading {
    /// Ritz values in descending order of absolute value. Only the first few are accurate.
    pub values: Vec<Complex<f64>>,
    /// ‖M·y − λ·y‖ for the first Ritz value λ and its Ritz vector y, ‖y‖ = 1: λ is an exact
    /// eigenvalue of a matrix whose distance from M in norm is the residual.
    pub residual: f64,
    /// Number of products with M.
    pub products: usize,
}

impl Leading {
    /// |λ| of the first Ritz value: an estimate of ρ(M).
    pub fn radius(&self) -> f64 {
        self.values.first().map_or(0.0, |value| value.norm())
    }
}

/// When [`leading_eigenvalues`] stops.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Maximum number of products with M, by default 120. Each stores one vector.
    pub products: usize,
    /// Stops once the residual of the first Ritz value λ is at most `tolerance`·|λ|, by default
    /// 1e-6.
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

/// Number of products between two computations of the Ritz values.
const LOOK_EVERY: usize = 10;

/// The largest eigenvalues of a linear map x ↦ M·x in absolute value, where M is \[n, n\] and
/// `start` \[n\]. `product` computes M·x.
///
/// The Arnoldi iteration (W. E. Arnoldi, 1951) orthogonalizes x, Mx, M²x, … (twice, to limit
/// rounding errors) and returns the Ritz values: the eigenvalues of M projected onto their span.
///
/// # Errors
/// Propagates the errors of `product`. Returns [`Error::Unfit`] if `start` is zero or a product
/// is not finite, and [`Error::NoEigenvalues`] if the QR iteration does not converge.
pub fn leading_eigenvalues(
    start: DVector<f64>,
    effort: Effort,
    mut product: impl FnMut(&DVector<f64>) -> Result<DVector<f64>>,
) -> Result<Leading> {
    let norm = start.norm();
    if !(norm > 0.0 && norm.is_finite()) {
        return Err(Error::Unfit(
            "the start vector of the Arnoldi iteration must be finite and must not be zero"
                .to_owned(),
        ));
    }
    let most = effort.products.min(start.len()).max(1);
    let mut basis = vec![start / norm];
    let mut hessenberg = DMatrix::<f64>::zeros(most + 1, most);
    for j in 0..most {
        let mut next = product(&basis[j])?;
        let scale = next.norm();
        if !scale.is_finite() {
            return Err(Error::Unfit(
                "a product with the linear map is not finite".to_owned(),
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
    unreachable!("the last iteration returns")
}
