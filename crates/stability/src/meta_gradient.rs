use nalgebra::{DMatrix, DVector};

use crate::{Dynamics, LinearUpdate, Quadratic, Result};

/// A meta-loss L and its gradient dL/dP with respect to the learned matrix P.
#[derive(Clone, Debug, PartialEq)]
pub struct MetaGradient {
    /// L = (1/T)·Σ_{t<T} ℓ_t(φ_t), or its expectation.
    pub meta_loss: f64,
    /// dL/dP, \[n, n\].
    pub gradient: DMatrix<f64>,
}

/// The expected mean loss L = (1/T)·Σ_t E ℓ_t(φ_t) over T = `steps` steps from φ₀ = `params`
/// \[n\], and its exact gradient dL/dP.
///
/// The second moment of z follows S_{t+1} = M S_t Mᵀ + N Σ Nᵀ. Backwards from Λ_T = 0,
/// Λ_t = MᵀΛ_{t+1}M + H/(2T), where H is added to the φ block, and
///
/// dL/dP = −2 Σ_t Dᵀ · \[Λ_{t+1} (M S_t E − N Σ)\]_φ · H, E = (I, 0, …, 0)ᵀ.
///
/// L is a polynomial in P, of degree 2(T − 1) without averages. If ρ(M) > 1, its gradient grows
/// as ρ^{2T}.
///
/// # Errors
/// Returns an error if φ₀ or the update does not have the dimension of the model.
pub fn expected_meta_gradient(
    model: &Quadratic,
    update: &LinearUpdate,
    params: &DVector<f64>,
    steps: usize,
) -> Result<MetaGradient> {
    let dynamics = Dynamics::new(model, update)?;
    let n = model.dimension();
    let (matrix, noise_input) = (dynamics.matrix(), dynamics.noise_input());
    let fresh = dynamics.fresh_covariance();
    let start = dynamics.start(params)?;
    let weight = 1.0 / steps.max(1) as f64;
    let mut moments = vec![&start * start.transpose()];
    let mut meta_loss = 0.0;
    for t in 0..steps {
        let second = moments[t].view((0, 0), (n, n)).into_owned();
        meta_loss += weight * model.expected_loss(&second);
        moments.push(matrix * &moments[t] * matrix.transpose() + &fresh);
    }
    let of_noise = noise_input * model.noise();
    let mut adjoint = DMatrix::zeros(matrix.nrows(), matrix.nrows());
    let mut gradient = DMatrix::zeros(n, n);
    for second in moments[..steps].iter().rev() {
        let inner = matrix * second.columns(0, n) - &of_noise;
        gradient -= 2.0 * (adjoint.rows(0, n) * inner) * model.hessian();
        adjoint = matrix.transpose() * adjoint * matrix;
        let mut of_params = adjoint.view_mut((0, 0), (n, n));
        of_params += model.hessian() * (0.5 * weight);
    }
    Ok(MetaGradient {
        meta_loss,
        gradient: through_preconditioner(update, gradient),
    })
}

/// The mean loss L = (1/T)·Σ_t ℓ_t(φ_t) of one training run from φ₀ = `params` \[n\] with the
/// noises ξ_0 … ξ_{T−1}, each \[n\], and its gradient dL/dP by backpropagation: an unbiased
/// estimate of [`expected_meta_gradient`].
///
/// # Errors
/// Returns an error if φ₀ or the update does not have the dimension of the model.
pub fn sampled_meta_gradient(
    model: &Quadratic,
    update: &LinearUpdate,
    params: &DVector<f64>,
    noises: &[DVector<f64>],
) -> Result<MetaGradient> {
    let dynamics = Dynamics::new(model, update)?;
    let n = model.dimension();
    let weight = 1.0 / noises.len().max(1) as f64;
    let mut joint = dynamics.start(params)?;
    let mut meta_loss = 0.0;
    let mut gradients = vec![];
    for noise in noises {
        let params = dynamics.params(&joint);
        meta_loss += weight * model.loss(&params, noise);
        gradients.push(model.gradient(&params, noise));
        joint = dynamics.step(&joint, noise);
    }
    let mut adjoint = DVector::<f64>::zeros(joint.len());
    let mut gradient = DMatrix::zeros(n, n);
    for of_step in gradients.iter().rev() {
        gradient -= adjoint.rows(0, n) * of_step.transpose();
        adjoint = dynamics.matrix().tr_mul(&adjoint);
        let mut of_params = adjoint.rows_mut(0, n);
        of_params += of_step * weight;
    }
    Ok(MetaGradient {
        meta_loss,
        gradient: through_preconditioner(update, gradient),
    })
}

fn through_preconditioner(update: &LinearUpdate, gradient: DMatrix<f64>) -> DMatrix<f64> {
    match &update.preconditioner {
        Some(preconditioner) => preconditioner.tr_mul(&gradient),
        None => gradient,
    }
}
