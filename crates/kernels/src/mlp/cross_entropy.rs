use crate::{isa::dispatch, math::exp, simd::Simd};

dispatch! {
    /// Returns the mean over the batch of −ln softmax(z)\[label\] and writes its gradient
    /// (softmax(z) − onehot(label))/batch to `dz`; `z` and `dz` are \[batch, classes\].
    ///
    /// # Panics
    /// Panics if a slice has the wrong length, the batch is empty, or a label is not below
    /// `classes`.
    pub(super) fn cross_entropy = body(
        z: &[f32],
        labels: &[u8],
        classes: usize,
        dz: &mut [f32],
    ) -> f32
}

#[inline(always)]
fn body<S: Simd>(s: S, z: &[f32], labels: &[u8], classes: usize, dz: &mut [f32]) -> f32 {
    assert!(!labels.is_empty(), "the batch is empty");
    assert!(z.len() == labels.len() * classes && dz.len() == z.len());
    let per_row = 1.0 / labels.len() as f32;
    let mut total = 0f64;
    let mut row = 0;
    while row < labels.len() {
        let label = usize::from(labels[row]);
        assert!(
            label < classes,
            "label {label}, but there are {classes} classes"
        );
        let (z, dz) = (
            &z[row * classes..(row + 1) * classes],
            &mut dz[row * classes..(row + 1) * classes],
        );
        total += f64::from(of_row(s, z, label, per_row, dz));
        row += 1;
    }
    (total / labels.len() as f64) as f32
}

/// Returns −ln softmax(z)\[label\] of one row and writes its gradient times `factor` to `dz`.
#[inline(always)]
fn of_row<S: Simd>(s: S, z: &[f32], label: usize, factor: f32, dz: &mut [f32]) -> f32 {
    let mut largest = f32::NEG_INFINITY;
    for &z in z {
        largest = if z > largest { z } else { largest };
    }
    let mut sum = s.splat(0.0);
    let mut i = 0;
    while i < z.len() {
        let n = S::LANES.min(z.len() - i);
        // SAFETY: both rows have the same length, and `n` elements are left.
        unsafe {
            let shifted = s.sub(s.load_part(z, i, n), s.splat(largest));
            let e = s.keep(exp(s, shifted), n);
            sum = s.add(sum, e);
            s.store_part(dz, i, n, e);
        }
        i += n;
    }
    let sum = s.sum(sum);
    let scale = s.splat(factor / sum);
    let mut i = 0;
    while i < z.len() {
        let n = S::LANES.min(z.len() - i);
        // SAFETY: as above.
        unsafe {
            let probability = s.mul(s.load_part(dz, i, n), scale);
            s.store_part(dz, i, n, probability);
        }
        i += n;
    }
    dz[label] -= factor;
    sum.ln() - (z[label] - largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn losses_and_gradients_match_f64_for_many_sizes() {
        for classes in [1, 2, 10, 16, 37, 100] {
            let batch = 5;
            let z: Vec<f32> = (0..batch * classes)
                .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 7.0)
                .collect();
            let labels: Vec<u8> = (0..batch).map(|i| (i * 3 % classes) as u8).collect();
            for isa in Isa::all() {
                let mut dz = vec![f32::NAN; z.len()];
                let loss = cross_entropy(isa, &z, &labels, classes, &mut dz);
                let mut expected = 0.0;
                for (row, &label) in labels.iter().enumerate() {
                    let z = &z[row * classes..(row + 1) * classes];
                    let sum: f64 = z.iter().map(|&z| f64::from(z).exp()).sum();
                    expected += sum.ln() - f64::from(z[usize::from(label)]);
                    for (class, &z) in z.iter().enumerate() {
                        let hot = f64::from(u8::from(class == usize::from(label)));
                        let gradient = (f64::from(z).exp() / sum - hot) / batch as f64;
                        let error = f64::from(dz[row * classes + class]) - gradient;
                        assert!(error.abs() < 1e-7, "{isa} {classes}: {error}");
                    }
                }
                let error = f64::from(loss) - expected / batch as f64;
                assert!(error.abs() < 2e-6, "{isa} {classes}: {error}");
            }
        }
    }

    #[test]
    fn a_nan_logit_makes_the_loss_nan() {
        for isa in Isa::all() {
            let mut dz = [0.0; 3];
            for label in 0..3 {
                let loss = cross_entropy(isa, &[0.0, f32::NAN, 1.0], &[label], 3, &mut dz);
                assert!(loss.is_nan(), "{isa} {loss}");
            }
        }
    }
}
