//! The layers that networks are built from, in differentiable candle ops.

use candle_core::{D, Device, Tensor};
use lopt_core::{Params, Result};

use super::Parameter;

/// x·NAME/weight + NAME/bias: \[rows, in\] → \[rows, out\].
pub fn dense(params: &Params, name: &str, x: &Tensor) -> Result<Tensor> {
    let product = x.matmul(params.get(&format!("{name}/weight"))?)?;
    Ok(product.broadcast_add(params.get(&format!("{name}/bias"))?)?)
}

/// The parameters of [`dense`]; weights start as N(0, gain/inputs).
pub fn dense_parameters(name: &str, inputs: usize, outputs: usize, gain: f32) -> [Parameter; 2] {
    [
        Parameter::weight(format!("{name}/weight"), &[inputs, outputs], gain),
        Parameter::constant(format!("{name}/bias"), &[outputs], 0.0),
    ]
}

/// (x − mean)/√(variance + 1e-5)·NAME/gain + NAME/bias over the last dimension.
pub fn layer_norm(params: &Params, name: &str, x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normalised = centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
    let scaled = normalised.broadcast_mul(params.get(&format!("{name}/gain"))?)?;
    Ok(scaled.broadcast_add(params.get(&format!("{name}/bias"))?)?)
}

/// The parameters of [`layer_norm`]; gains start at 1, biases at 0.
pub fn layer_norm_parameters(name: &str, size: usize) -> [Parameter; 2] {
    [
        Parameter::constant(format!("{name}/gain"), &[size], 1.0),
        Parameter::constant(format!("{name}/bias"), &[size], 0.0),
    ]
}

/// 3×3 convolutions, padded with zeros, of images of one size.
///
/// Images are \[batch, side·side, channels\]. One index gathers every pixel's neighborhood, so
/// that a convolution and its gradients are matrix products.
pub struct Convolution {
    /// \[9·out·out\]: pixels of the image; index side·side is the padding.
    index: Tensor,
    /// Side of the output.
    pub side: usize,
}

impl Convolution {
    /// A convolution centered on every `stride`-th pixel of every `stride`-th row.
    pub fn new(side: usize, stride: usize, device: &Device) -> Result<Self> {
        let out = side.div_ceil(stride);
        let zero = side * side;
        let mut index = Vec::with_capacity(9 * out * out);
        for centre in (0..out * out).map(|i| (i / out * stride, i % out * stride)) {
            for (dy, dx) in (0..9).map(|k| (k / 3, k % 3)) {
                // Coordinates of the padded image, which starts one row and column earlier.
                let (y, x) = (centre.0 + dy, centre.1 + dx);
                let inside = (1..=side).contains(&y) && (1..=side).contains(&x);
                index.push(if inside { (y - 1) * side + x - 1 } else { zero } as u32);
            }
        }
        Ok(Self {
            index: Tensor::from_vec(index, 9 * out * out, &Device::Cpu)?.to_device(device)?,
            side: out,
        })
    }

    /// x ∗ NAME/kernel + NAME/bias: \[batch, side·side, in\] → \[batch, out·out, out-channels\].
    pub fn apply(&self, params: &Params, name: &str, x: &Tensor) -> Result<Tensor> {
        let (n, _, channels) = x.dims3()?;
        let kernel = params.get(&format!("{name}/kernel"))?;
        let outputs = kernel.dim(3)?;
        let padded = x.pad_with_zeros(1, 0, 1)?;
        let patches = padded.index_select(&self.index, 1)?;
        let pixels = self.side * self.side;
        let patches = patches.reshape((n * pixels, 9 * channels))?;
        let product = patches.matmul(&kernel.reshape((9 * channels, outputs))?)?;
        let sum = product.broadcast_add(params.get(&format!("{name}/bias"))?)?;
        Ok(sum.reshape((n, pixels, outputs))?)
    }
}

/// The parameters of [`Convolution::apply`]: the kernel \[3, 3, inputs, outputs\] starts as
/// N(0, 2/(9·inputs)), the bias at 0.
pub fn convolution_parameters(name: &str, inputs: usize, outputs: usize) -> [Parameter; 2] {
    [
        Parameter::weight(format!("{name}/kernel"), &[3, 3, inputs, outputs], 2.0),
        Parameter::constant(format!("{name}/bias"), &[outputs], 0.0),
    ]
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};
    use lopt_core::{Purpose, Streams};

    use super::*;

    /// The outputs and gradients equal those of candle's own convolution.
    #[test]
    fn convolutions_are_candles() {
        let device = Device::Cpu;
        let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
        for (side, stride) in [(5, 1), (6, 2), (7, 2)] {
            let (n, channels, outputs) = (2, 3, 4);
            let named = convolution_parameters("c", channels, outputs);
            let named = named.iter().map(|p| p.sample(&mut rng, &device).unwrap());
            let (params, vars) = Params::new(named).unwrap().tracked().unwrap();
            let pixels = Parameter::normal("x", &[n, side * side, channels], 1.0);
            let x = Var::from_tensor(&pixels.sample(&mut rng, &device).unwrap().1).unwrap();
            let convolution = Convolution::new(side, stride, &device).unwrap();
            let ours = convolution.apply(&params, "c", &x).unwrap();
            let image = x.reshape((n, side, side, channels)).unwrap();
            let image = image.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let kernel = params
                .get("c/kernel")
                .unwrap()
                .permute((3, 2, 0, 1))
                .unwrap();
            let theirs = image
                .conv2d(&kernel.contiguous().unwrap(), 1, stride, 1, 1)
                .unwrap();
            let theirs = theirs.flatten_from(2).unwrap().transpose(1, 2).unwrap();
            let theirs = theirs.broadcast_add(params.get("c/bias").unwrap()).unwrap();
            let close = |a: &Tensor, b: &Tensor| {
                let error = (a - b).unwrap().abs().unwrap().max_all().unwrap();
                assert!(
                    error
                        .to_dtype(DType::F64)
                        .unwrap()
                        .to_scalar::<f64>()
                        .unwrap()
                        < 1e-4
                );
            };
            close(&ours, &theirs);
            let grads = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let (ours, theirs) = (grads(&ours), grads(&theirs));
            for var in vars.iter().chain([&x]) {
                close(ours.get(var).unwrap(), theirs.get(var).unwrap());
            }
        }
    }
}
