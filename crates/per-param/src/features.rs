//! The features of each scalar parameter, in candle ops. Their order, widths and constants are
//! those of [`lopt_kernels::per_param::features`].

use candle_core::Tensor;
use lopt_core::Result;
pub use lopt_kernels::per_param::features::{
    Feature, INPUTS, PER_PARAMETER, PER_STEP, epsilon, step_features,
};

use crate::accumulators::{Accumulators, Factored, factored_dims};

/// The features of each element, and the intermediate values that rules use.
#[derive(Clone, Debug)]
pub struct Features {
    /// \[[`PER_PARAMETER`], n\], not normalized.
    pub raw: Tensor,
    /// The momenta, \[3, n\].
    pub momentum: Tensor,
    /// m · (v + 1e-6)^{-1/2}, \[3, n\].
    pub preconditioned_momentum: Tensor,
    /// (v + 1e-6)^{-1/2}, \[1, n\].
    pub rsqrt: Tensor,
}

/// Computes the features of a parameter `p` with gradient `g`, both of the working shape with n
/// elements. `acc` are the accumulators after the update with `g`.
///
/// The order of the features is that of [`Feature::ALL`].
///
/// # Errors
/// Returns an error if a tensor operation fails.
pub fn features(p: &Tensor, g: &Tensor, acc: &Accumulators) -> Result<Features> {
    let n = g.elem_count();
    let flat = |t: &Tensor| t.reshape((1, n));
    let momentum = acc.momentum.reshape((3, n))?;
    let v = flat(&acc.rms)?;
    let rsqrt = rsqrt(&(&v + epsilon::SECOND_MOMENT)?)?;
    let preconditioned_momentum = momentum.broadcast_mul(&rsqrt)?;
    let second = second_moments(g, acc)?;
    let (g, p) = (flat(g)?, flat(p)?);
    let of = |feature: Feature| match feature {
        Feature::Gradient => &g,
        Feature::Parameter => &p,
        Feature::Momentum => &momentum,
        Feature::SecondMoment => &v,
        Feature::PreconditionedMomentum => &preconditioned_momentum,
        Feature::InverseRoot => &rsqrt,
        Feature::FactoredGradient => &second.gradient,
        Feature::Row => &second.row,
        Feature::Column => &second.col,
        Feature::RowInverseRoot => &second.row_rsqrt,
        Feature::ColumnInverseRoot => &second.col_rsqrt,
        Feature::FactoredMomentum => &second.momentum,
    };
    let raw = Tensor::cat(&Feature::ALL.map(of), 0)?;
    Ok(Features {
        raw,
        momentum,
        preconditioned_momentum,
        rsqrt,
    })
}

/// Returns 1/√(1e-5 + mean over the tensor of the feature's square), \[[`PER_PARAMETER`], 1\].
///
/// # Errors
/// Returns an error if a tensor operation fails.
pub fn normalizer(raw: &Tensor) -> Result<Tensor> {
    rsqrt(&(raw.sqr()?.mean_keepdim(1)? + epsilon::NORMALIZER)?)
}

/// The features from the factored second moments, each \[3, n\].
struct SecondMoments {
    gradient: Tensor,
    momentum: Tensor,
    row: Tensor,
    col: Tensor,
    row_rsqrt: Tensor,
    col_rsqrt: Tensor,
}

fn second_moments(g: &Tensor, acc: &Accumulators) -> Result<SecondMoments> {
    let n = g.elem_count();
    let shape: Vec<usize> = std::iter::once(3).chain(g.dims().iter().copied()).collect();
    let spread = |t: &Tensor| t.broadcast_as(shape.as_slice())?.reshape((3, n));
    let g = g.unsqueeze(0)?;
    let m = &acc.momentum;
    match (&acc.factored, factored_dims(&shape[1..])) {
        (Factored::RowCol { row, col }, Some((d1, d0))) => {
            let d1_in_row = if d1 > d0 { d1 - 1 } else { d1 };
            let row_mean = (row.mean_keepdim(d1_in_row + 1)? + epsilon::MEAN)?;
            let row_factor = safe_rsqrt(&row.broadcast_div(&row_mean)?)?.unsqueeze(d0 + 1)?;
            let col_factor = safe_rsqrt(col)?.unsqueeze(d1 + 1)?;
            let factor = row_factor.broadcast_mul(&col_factor)?;
            let (row, col) = (row.unsqueeze(d0 + 1)?, col.unsqueeze(d1 + 1)?);
            Ok(SecondMoments {
                gradient: g.broadcast_mul(&factor)?.reshape((3, n))?,
                momentum: (m * factor)?.reshape((3, n))?,
                row_rsqrt: spread(&rsqrt(&(&row + epsilon::LINE)?)?)?,
                col_rsqrt: spread(&rsqrt(&(&col + epsilon::LINE)?)?)?,
                row: spread(&row)?,
                col: spread(&col)?,
            })
        }
        (Factored::RowCol { row: diag, .. } | Factored::Diag(diag), _) => {
            let diag_rsqrt = rsqrt(&(diag + epsilon::LINE)?)?.reshape((3, n))?;
            let factor = safe_rsqrt(&(diag + epsilon::MEAN)?)?;
            let diag_flat = diag.reshape((3, n))?;
            Ok(SecondMoments {
                gradient: g.broadcast_mul(&factor)?.reshape((3, n))?,
                momentum: (m * rsqrt(&(diag + epsilon::SECOND_MOMENT)?)?)?.reshape((3, n))?,
                row: diag_flat.clone(),
                col: diag_flat,
                row_rsqrt: diag_rsqrt.clone(),
                col_rsqrt: diag_rsqrt,
            })
        }
    }
}

/// x^{-1/2}.
fn rsqrt(x: &Tensor) -> Result<Tensor> {
    Ok(x.sqrt()?.recip()?)
}

/// 1/√max(x, 1e-9).
fn safe_rsqrt(x: &Tensor) -> Result<Tensor> {
    rsqrt(&x.maximum(epsilon::FLOOR)?)
}
