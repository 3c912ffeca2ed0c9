use candle_core::Tensor;
use lopt_core::Result;
use lopt_kernels::mlp;
use serde::{Deserialize, Serialize};

/// The elementwise nonlinearity between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// tanh x
    Tanh,
    /// 1/(1 + e^{-x})
    Sigmoid,
    /// x·Φ(x) in its tanh approximation (Hendrycks and Gimpel 2016)
    Gelu,
    /// x/(1 + e^{-x}), also called swish
    #[serde(alias = "swish")]
    Silu,
    /// max(x, 0.01·x)
    LeakyRelu,
    /// x if x > 0, else e^x − 1
    Elu,
    /// ln(1 + e^x)
    Softplus,
    /// sin x
    Sin,
}

impl Activation {
    /// Every nonlinearity.
    pub const ALL: [Activation; 9] = [
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Gelu,
        Activation::Silu,
        Activation::LeakyRelu,
        Activation::Elu,
        Activation::Softplus,
        Activation::Sin,
    ];

    /// The name in configurations, such as `leaky-relu`.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
            Activation::Gelu => "gelu",
            Activation::Silu => "silu",
            Activation::LeakyRelu => "leaky-relu",
            Activation::Elu => "elu",
            Activation::Softplus => "softplus",
            Activation::Sin => "sin",
        }
    }

    /// The same nonlinearity of the CPU kernels.
    pub(crate) fn kernel(self) -> mlp::Activation {
        match self {
            Activation::Relu => mlp::Activation::Relu,
            Activation::Tanh => mlp::Activation::Tanh,
            Activation::Sigmoid => mlp::Activation::Sigmoid,
            Activation::Gelu => mlp::Activation::Gelu,
            Activation::Silu => mlp::Activation::Silu,
            Activation::LeakyRelu => mlp::Activation::LeakyRelu,
            Activation::Elu => mlp::Activation::Elu,
            Activation::Softplus => mlp::Activation::Softplus,
            Activation::Sin => mlp::Activation::Sin,
        }
    }

    /// a(x) of each element.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Activation::Relu => x.relu()?,
            Activation::Tanh => x.tanh()?,
            Activation::Sigmoid => candle_nn::ops::sigmoid(x)?,
            Activation::Gelu => x.gelu()?,
            Activation::Silu => x.silu()?,
            Activation::LeakyRelu => candle_nn::ops::leaky_relu(x, 0.01)?,
            Activation::Elu => x.elu(1.0)?,
            // ln(1 + e^x) = max(x, 0) + ln(1 + e^{-|x|}), which never overflows.
            Activation::Softplus => (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?,
            Activation::Sin => x.sin()?,
        })
    }

    /// a'(x) of each element, in candle ops that can be differentiated again.
    ///
    /// # Errors
    /// Returns an error if a tensor operation fails.
    pub fn slope(self, x: &Tensor) -> Result<Tensor> {
        const GELU_SCALE: f64 = 0.797_884_560_802_865_4; // √(2/π)
        const GELU_CUBE: f64 = 0.044_715;
        // 1 where the condition holds, 0 elsewhere.
        let number = |condition: Tensor| condition.to_dtype(x.dtype());
        let sigmoid = || candle_nn::ops::sigmoid(x);
        Ok(match self {
            Activation::Relu => number(x.ge(0f64)?)?,
            Activation::Tanh => x.tanh()?.sqr()?.affine(-1.0, 1.0)?,
            Activation::Sigmoid => {
                let s = sigmoid()?;
                (&s * s.affine(-1.0, 1.0)?)?
            }
            // (1 + t)/2 + x/2·(1 − t²)·√(2/π)·(1 + 3·0.044715·x²)
            Activation::Gelu => {
                let square = x.sqr()?;
                let inner = ((x * GELU_SCALE)? * square.affine(GELU_CUBE, 1.0)?)?;
                let t = inner.tanh()?;
                let steep = square.affine(3.0 * GELU_CUBE, 1.0)?;
                let outer = ((x * GELU_SCALE)? * t.sqr()?.affine(-1.0, 1.0)?)?;
                ((outer * steep)? + t.affine(1.0, 1.0)?)?.affine(0.5, 0.0)?
            }
            // σ·(1 + x·(1 − σ))
            Activation::Silu => {
                let s = sigmoid()?;
                let rest = (x * s.affine(-1.0, 1.0)?)?;
                (s * rest.affine(1.0, 1.0)?)?
            }
            Activation::LeakyRelu => number(x.ge(0f64)?)?.affine(0.99, 0.01)?,
            // e^min(x, 0), which is 1 for x ≥ 0.
            Activation::Elu => x.minimum(0f64)?.exp()?,
            Activation::Softplus => sigmoid()?,
            Activation::Sin => x.cos()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn reference(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Gelu => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::LeakyRelu => x.max(0.01 * x),
            Activation::Elu => {
                if x > 0.0 {
                    x
                } else {
                    x.exp() - 1.0
                }
            }
            Activation::Softplus => x.exp().ln_1p(),
            Activation::Sin => x.sin(),
        }
    }

    /// Compares values with formulas and gradients with central differences, in f64.
    #[test]
    fn values_and_gradients() {
        let points = [-3.0f64, -1.2, -0.3, 0.4, 1.1, 2.7];
        for activation in Activation::ALL {
            let x = Var::new(&points, &Device::Cpu).unwrap();
            let y = activation.apply(&x).unwrap();
            let grads = y.sum_all().unwrap().backward().unwrap();
            let grads = grads.get(&x).unwrap().to_vec1::<f64>().unwrap();
            let values = y.to_vec1::<f64>().unwrap();
            for ((&x, value), grad) in points.iter().zip(values).zip(grads) {
                let expected = reference(activation, x);
                assert!(
                    (value - expected).abs() < 1e-9,
                    "{activation:?}({x}) = {value}, not {expected}"
                );
                let slope =
                    (reference(activation, x + 1e-5) - reference(activation, x - 1e-5)) / 2e-5;
                assert!(
                    (grad - slope).abs() < 1e-6,
                    "{activation:?}'({x}) = {grad}, not {slope}"
                );
            }
        }
    }

    /// Compares slopes with candle's own, and their derivatives with central differences.
    #[test]
    fn slopes_can_be_differentiated() {
        let points = [-3.0f64, -1.2, -0.3, 0.4, 1.1, 2.7];
        for activation in Activation::ALL {
            let x = Var::new(&points, &Device::Cpu).unwrap();
            let backward = |y: Tensor| {
                let store = y.sum_all().unwrap().backward().unwrap();
                let grad = store.get(&x).map(|g| g.to_vec1::<f64>().unwrap());
                grad.unwrap_or(vec![0.0; points.len()])
            };
            let slope = activation.slope(&x).unwrap();
            let ours = slope.to_vec1::<f64>().unwrap();
            let first = backward(activation.apply(&x).unwrap());
            let second = backward(slope);
            for (i, &x) in points.iter().enumerate() {
                let (ours, first) = (ours[i], first[i]);
                // Candle rounds the constants of gelu's derivative.
                assert!(
                    (ours - first).abs() < 1e-6,
                    "{activation:?}'({x}) = {ours}, not {first}"
                );
                let h = 1e-4;
                let f = |x| reference(activation, x);
                let expected = (f(x + h) - 2.0 * f(x) + f(x - h)) / (h * h);
                let error = (second[i] - expected).abs();
                assert!(
                    error < 1e-5,
                    "{activation:?}''({x}) = {}, not {expected}",
                    second[i]
                );
            }
        }
    }

    #[test]
    fn softplus_does_not_overflow() {
        let x = Tensor::new(&[1000f32, -1000.0], &Device::Cpu).unwrap();
        let y = Activation::Softplus
            .apply(&x)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert_eq!(y, [1000.0, 0.0]);
    }

    #[test]
    fn names_are_those_of_serde() {
        use serde::de::{IntoDeserializer, value::StrDeserializer};
        for activation in Activation::ALL {
            let name: StrDeserializer<'_, serde::de::value::Error> =
                activation.name().into_deserializer();
            assert_eq!(Activation::deserialize(name).unwrap(), activation);
        }
    }
}
