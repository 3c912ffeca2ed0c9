//! θ as the kernels read it.

use lopt_kernels::per_param::Weights;

use crate::optimizer::Hidden;

/// Returns the decays and, layer by layer, the weights and biases of a decoded θ.
pub fn values<const H: usize>(weights: &Weights<H>) -> Vec<f32> {
    let mut values = weights.momentum_decays.to_vec();
    values.push(weights.rms_decay);
    values.extend(weights.adafactor_decays);
    values.push(0.0);
    values.extend(weights.w0.iter().flatten());
    values.extend(weights.b0);
    values.extend(weights.w1.iter().flatten());
    values.extend(weights.b1);
    values.extend(weights.w2.iter().flatten());
    values.extend(weights.b2);
    values
}

/// Returns the [`values`] of a flat θ whose MLP has this number of outputs; `None` if it cannot have
/// as many values.
pub fn decoded(theta: &[f32], hidden: Hidden, heads: usize) -> Option<Vec<f32>> {
    fn of<const H: usize>(theta: &[f32], heads: usize) -> Option<Vec<f32>> {
        Some(values(&Weights::<H>::decode(theta, heads)?))
    }
    match hidden {
        Hidden::H4 => of::<4>(theta, heads),
        Hidden::H8 => of::<8>(theta, heads),
        Hidden::H16 => of::<16>(theta, heads),
        Hidden::H32 => of::<32>(theta, heads),
    }
}

/// The number of values for hidden layers of this width; 0 for none.
pub fn len(hidden: usize) -> usize {
    use lopt_kernels::per_param::features::INPUTS;
    match hidden {
        0 => 0,
        h => 8 + INPUTS * h + h + h * h + h + 3 * h + 3,
    }
}
