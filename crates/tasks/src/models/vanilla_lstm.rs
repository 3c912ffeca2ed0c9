use candle_core::{Device, Tensor};
use lopt_core::{Params, Result};
use serde::{Deserialize, Serialize};

use super::{Architecture, Input, Model, Parameter, Size, lstm::unroll, ops::embed_steps};
use crate::error::sizes_in_range;

/// The LSTM language model of candle-nn's `embedding`, `lstm` and `linear`, with their shapes and
/// initial distributions. It differs from [`LstmConfig`](super::LstmConfig)'s in these: the gates
/// have two biases, nothing is added to the forget gate, and weights are \[out, in\].
///
/// Parameters: `embedding` \[vocabulary, embedding\], `input/weight` \[4·hidden, embedding\],
/// `input/bias` \[4·hidden\], `recurrent/weight` \[4·hidden, hidden\], `recurrent/bias`
/// \[4·hidden\], `head/weight` \[vocabulary, hidden\], `head/bias` \[vocabulary\]. The embedding
/// starts as N(0, 1), the gates' weights uniform in ±√(6/in) (He et al. 2015), their biases at 0,
/// the head's weight as N(0, 2/in), its bias uniform in ±1/√in.
///
/// In a family, a width gives `embedding = hidden = width`; the depth must be 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VanillaLstmConfig {
    /// Size of a byte's embedding.
    pub embedding: usize,
    /// Hidden units.
    pub hidden: usize,
}

impl Architecture for VanillaLstmConfig {
    fn of_size(size: Size) -> crate::Result<Self> {
        let width = size.of_one_layer("the LSTM")?;
        Ok(Self {
            embedding: width,
            hidden: width,
        })
    }

    fn build(&self, input: Input, _outputs: usize, _: &Device) -> crate::Result<Box<dyn Model>> {
        sizes_in_range("embedding", &[self.embedding])?;
        sizes_in_range("hidden", &[self.hidden])?;
        Ok(Box::new(VanillaLstm {
            vocabulary: input.tokens()?.vocabulary,
            embedding: self.embedding,
            hidden: self.hidden,
        }))
    }
}

struct VanillaLstm {
    vocabulary: usize,
    embedding: usize,
    hidden: usize,
}

impl Model for VanillaLstm {
    fn parameters(&self) -> Vec<Parameter> {
        let Self {
            vocabulary,
            embedding,
            hidden,
        } = *self;
        let limit = |inputs: usize, gain: f32| (gain / inputs as f32).sqrt();
        let gates = |name: &str, inputs: usize| {
            let weight = format!("{name}/weight");
            [
                Parameter::uniform(weight, &[4 * hidden, inputs], limit(inputs, 6.0)),
                Parameter::constant(format!("{name}/bias"), &[4 * hidden], 0.0),
            ]
        };
        let mut all = vec![Parameter::normal(
            "embedding",
            &[vocabulary, embedding],
            1.0,
        )];
        all.extend(gates("input", embedding));
        all.extend(gates("recurrent", hidden));
        let sigma = limit(hidden, 2.0);
        all.push(Parameter::normal(
            "head/weight",
            &[vocabulary, hidden],
            sigma,
        ));
        all.push(Parameter::uniform(
            "head/bias",
            &[vocabulary],
            limit(hidden, 1.0),
        ));
        all
    }

    fn outputs(&self, params: &Params, input: &Tensor) -> Result<Tensor> {
        let dense = |name: &str, x: &Tensor| -> Result<Tensor> {
            let product = x.matmul(&params.get(&format!("{name}/weight"))?.t()?)?;
            Ok(product.broadcast_add(params.get(&format!("{name}/bias"))?)?)
        };
        let from_input = dense("input", &embed_steps(params, input)?)?;
        let biased = from_input.broadcast_add(params.get("recurrent/bias")?)?;
        let recurrent = params.get("recurrent/weight")?.t()?;
        let h = unroll(&biased, &recurrent, 0.0, input.dims2()?)?;
        dense("head", &h)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::DType;
    use candle_nn::{
        Module, RNN, VarBuilder, embedding, linear,
        rnn::{LSTMConfig, lstm},
    };
    use lopt_core::{Purpose, Streams};

    use super::*;
    use crate::models::Tokens;

    /// The same logits as candle-nn's layers, whose gates are in the order i, f, g, o.
    #[test]
    fn it_is_candles() {
        let (vocabulary, width, hidden) = (7, 3, 5);
        let config = VanillaLstmConfig {
            embedding: width,
            hidden,
        };
        let device = Device::Cpu;
        let input = Input::Tokens(Tokens {
            vocabulary,
            length: 4,
        });
        let model = config.build(input, vocabulary, &device).unwrap();
        let mut rng = Streams::new(0).stream(Purpose::ParamsInit, 0, 0, 0);
        let named = model.parameters().into_iter().map(|parameter| {
            // Biases of 0 would hide errors in their use.
            let (name, value) = parameter.sample(&mut rng, &device).unwrap();
            let noise = Tensor::randn(0f32, 0.3, value.shape(), &device).unwrap();
            (name, (value + noise).unwrap())
        });
        let params = Params::new(named).unwrap();
        let tokens = Tensor::new(&[[0u32, 6, 2, 1], [5, 5, 3, 4]], &device).unwrap();
        let ours = model.outputs(&params, &tokens).unwrap();

        let theirs = |name: &str| match params.get(name).unwrap().clone() {
            gates if gates.dim(0).unwrap() == 4 * hidden => {
                let gate = |index: usize| gates.narrow(0, index * hidden, hidden).unwrap();
                Tensor::cat(&[gate(0), gate(1), gate(3), gate(2)], 0).unwrap()
            }
            other => other,
        };
        let renamed = [
            ("e.weight", "embedding"),
            ("l.weight_ih_l0", "input/weight"),
            ("l.bias_ih_l0", "input/bias"),
            ("l.weight_hh_l0", "recurrent/weight"),
            ("l.bias_hh_l0", "recurrent/bias"),
            ("h.weight", "head/weight"),
            ("h.bias", "head/bias"),
        ];
        let tensors = renamed.map(|(to, from)| (to.to_owned(), theirs(from)));
        let tensors = HashMap::from(tensors);
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &device);
        let embedding = embedding(vocabulary, width, builder.pp("e")).unwrap();
        let lstm = lstm(width, hidden, LSTMConfig::default(), builder.pp("l")).unwrap();
        let head = linear(hidden, vocabulary, builder.pp("h")).unwrap();
        let states = lstm.seq(&embedding.forward(&tokens).unwrap()).unwrap();
        let h = lstm.states_to_tensor(&states).unwrap();
        let theirs = head.forward(&h).unwrap().flatten(0, 1).unwrap();
        let error = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 1e-5);
    }

    /// The size of candle-nn's layers on this text: 62 characters, embedding 32, hidden 64.
    #[test]
    fn number_of_parameters() {
        let model = VanillaLstm {
            vocabulary: 62,
            embedding: 32,
            hidden: 64,
        };
        let sizes = model.parameters().into_iter();
        let sizes = sizes.map(|parameter| parameter.shape.iter().product::<usize>());
        assert_eq!(sizes.sum::<usize>(), 31_102);
    }
}
