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

/// The embeddings of tokens \[rows, length\], \[length·rows, embedding\]: the steps one after the
/// other, so that each is a block of rows.
pub fn embed_steps(params: &Params, tokens: &Tensor) -> Result<Tensor> {
    let tokens = tokens.t()?.contiguous()?.flatten_all()?;
    Ok(params.get("embedding")?.index_select(&tokens, 0)?)
}

/// Convolutions of images of one size.
///
/// Images are \[batch, side·side, channels\]. One index gathers every pixel's neighborhood, so
/// that a convolution and its gradients are matrix products.
pub struct Convolution {
    /// \[out·out·filter·filter\]: pixels of the image; index side·side is the padding.
    index: Tensor,
    filter: usize,
    /// Side of the output.
    pub side: usize,
}

impl Convolution {
    /// A 3×3 convolution centered on every `stride`-th pixel of every `stride`-th row, padded with
    /// zeros.
    pub fn new(side: usize, stride: usize, device: &Device) -> Result<Self> {
        Self::padded(side, 3, stride, device)
    }

    /// The same with filter×filter pixels. An even filter reaches further to the right and down.
    pub fn padded(side: usize, filter: usize, stride: usize, device: &Device) -> Result<Self> {
        let out = side.div_ceil(stride);
        Self::with_margin((filter - 1) / 2, [side, filter, stride, out], device)
    }

    /// A convolution without padding. `filter` must be at most `side`.
    pub fn valid(side: usize, filter: usize, stride: usize, device: &Device) -> Result<Self> {
        let out = (side - filter) / stride + 1;
        Self::with_margin(0, [side, filter, stride, out], device)
    }

    /// The first window starts `margin` pixels outside of the image.
    fn with_margin(
        margin: usize,
        [side, filter, stride, out]: [usize; 4],
        device: &Device,
    ) -> Result<Self> {
        let zero = side * side;
        let mut index = Vec::with_capacity(filter * filter * out * out);
        for start in (0..out * out).map(|i| (i / out * stride, i % out * stride)) {
            for (dy, dx) in (0..filter * filter).map(|k| (k / filter, k % filter)) {
                // Coordinates of the padded image.
                let (y, x) = (start.0 + dy, start.1 + dx);
                let within = margin..margin + side;
                let inside = within.contains(&y) && within.contains(&x);
                let pixel = |y: usize, x: usize| (y - margin) * side + x - margin;
                index.push(if inside { pixel(y, x) } else { zero } as u32);
            }
        }
        let n = index.len();
        Ok(Self {
            index: Tensor::from_vec(index, n, &Device::Cpu)?.to_device(device)?,
            filter,
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
        let inputs = self.filter * self.filter * channels;
        let patches = patches.reshape((n * pixels, inputs))?;
        let product = patches.matmul(&kernel.reshape((inputs, outputs))?)?;
        let sum = product.broadcast_add(params.get(&format!("{name}/bias"))?)?;
        Ok(sum.reshape((n, pixels, outputs))?)
    }
}

/// The parameters of [`Convolution::apply`]: the kernel \[filter, filter, inputs, outputs\] starts
/// as N(0, 2/(filter²·inputs)), the bias at 0.
pub fn convolution_parameters(
    name: &str,
    filter: usize,
    inputs: usize,
    outputs: usize,
) -> [Parameter; 2] {
    let shape = [filter, filter, inputs, outputs];
    [
        Parameter::weight(format!("{name}/kernel"), &shape, 2.0),
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
        for (side, filter, stride, padding) in [
            (5, 3, 1, 1),
            (6, 3, 2, 1),
            (7, 3, 2, 1),
            (8, 5, 1, 2),
            (7, 5, 2, 0),
            (8, 4, 1, 0),
        ] {
            let (n, channels, outputs) = (2, 3, 4);
            let named = convolution_parameters("c", filter, channels, outputs);
            let named = named.iter().map(|p| p.sample(&mut rng, &device).unwrap());
            let (params, vars) = Params::new(named).unwrap().tracked().unwrap();
            let pixels = Parameter::normal("x", &[n, side * side, channels], 1.0);
            let x = Var::from_tensor(&pixels.sample(&mut rng, &device).unwrap().1).unwrap();
            let convolution = match padding {
                0 => Convolution::valid(side, filter, stride, &device),
                _ => Convolution::padded(side, filter, stride, &device),
            };
            let convolution = convolution.unwrap();
            let ours = convolution.apply(&params, "c", &x).unwrap();
            let image = x.reshape((n, side, side, channels)).unwrap();
            let image = image.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
            let kernel = params
                .get("c/kernel")
                .unwrap()
                .permute((3, 2, 0, 1))
                .unwrap();
            let theirs = image
                .conv2d(&kernel.contiguous().unwrap(), padding, stride, 1, 1)
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
