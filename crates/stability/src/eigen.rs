//! Eigenvalues of dense matrices.

use nalgebra::{Complex, DMatrix, DVector};

use crate::{Error, Result};

/// All eigenvalues of an \[n, n\] matrix, in descending order of absolute value.
///
/// # Errors
/// Returns [`Error::Unfit`] if the matrix is not square or not finite, and
/// [`Error::NoEigenvalues`] if the QR iteration does not converge.
pub fn eigenvalues(matrix: &DMatrix<f64>) -> Result<Vec<Complex<f64>>> {
    check_square(matrix, "the matrix")?;
    let n = matrix.nrows();
    if n == 0 {
        return Ok(vec![]);
    }
    let found = to_faer(matrix).eigenvalues();
    let found = found.map_err(|_| Error::NoEigenvalues(n))?;
    let mut values: Vec<_> = found.iter().map(|v| Complex::new(v.re, v.im)).collect();
    values.sort_by(|a, b| b.norm().total_cmp(&a.norm()));
    Ok(values)
}

/// As [`eigenvalues`], and the absolute value of the last entry of a unit eigenvector of the
/// first.
pub(crate) fn leading_pair(matrix: &DMatrix<f64>) -> Result<(Vec<Complex<f64>>, f64)> {
    let n = matrix.nrows();
    let found = to_faer(matrix).eigen();
    let found = found.map_err(|_| Error::NoEigenvalues(n))?;
    let (values, vectors) = (found.S().column_vector(), found.U());
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| values[j].norm().total_cmp(&values[i].norm()));
    let entry = order.first().map_or(0.0, |&j| {
        vectors[(n - 1, j)].norm() / vectors.col(j).norm_l2()
    });
    let value = |&i: &usize| Complex::new(values[i].re, values[i].im);
    Ok((order.iter().map(value).collect(), entry))
}

fn to_faer(matrix: &DMatrix<f64>) -> faer::Mat<f64> {
    faer::Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)])
}

/// ρ(M) = max |λᵢ|, the largest absolute value of an eigenvalue; 0 if M is empty.
///
/// # Errors
/// Returns the errors of [`eigenvalues`].
pub fn spectral_radius(matrix: &DMatrix<f64>) -> Result<f64> {
    Ok(eigenvalues(matrix)?.first().map_or(0.0, |v| v.norm()))
}

/// The eigenvalues of a symmetric matrix, ascending.
pub(crate) fn symmetric_eigenvalues(matrix: &DMatrix<f64>) -> DVector<f64> {
    let mut values = matrix.symmetric_eigenvalues();
    values.as_mut_slice().sort_by(f64::total_cmp);
    values
}

pub(crate) fn check_square(matrix: &DMatrix<f64>, what: &str) -> Result<()> {
    let (rows, columns) = matrix.shape();
    if rows != columns {
        return Err(Error::Unfit(format!(
            "{what} is {rows}×{columns}; it must be square"
        )));
    }
    if matrix.iter().any(|x| !x.is_finite()) {
        return Err(Error::Unfit(format!(
            "{what} contains a value that is not finite"
        )));
    }
    Ok(())
}

/// Returns an error if the matrix is not symmetric up to rounding.
pub(crate) fn check_symmetric(matrix: &DMatrix<f64>, what: &str) -> Result<()> {
    check_square(matrix, what)?;
    if (matrix - matrix.transpose()).amax() > 1e-9 * matrix.amax() {
        return Err(Error::Unfit(format!("{what} must be symmetric")));
    }
    Ok(())
}
