//! After the first step, training reuses its memory.

use std::sync::Arc;

use allocation_counter::measure;
use candle_core::{DType, Device, Tensor, Var};
use lopt_adam::Adam;
use lopt_baselines::{AdamW, Sgd};
use lopt_blackbox::Blackbox;
use lopt_core::{DropIn, DropInConfig, Optimizer, Purpose, Streams};
use lopt_datasets::{DatasetName, Source};
use lopt_star::Star;
use lopt_tasks::{
    Activation, DataStore, Feed, Initializer, MlpConfig, MlpTask, Network, Split, Task,
};

fn optimizers() -> Vec<Arc<dyn Optimizer>> {
    vec![
        Arc::new(Star::untrained()),
        Arc::new(Blackbox::untrained()),
        Arc::new(Adam::default()),
        Arc::new(AdamW::default()),
        Arc::new(Sgd::default()),
    ]
}

#[test]
fn a_native_inner_step_allocates_nothing_after_the_first() {
    let config = MlpConfig {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size: 8,
        hidden: vec![32, 20],
        activation: Activation::Relu,
        initializer: Initializer::He,
        batch_size: 64,
        input_scale: 1.0,
        label_noise: 0.0,
    };
    let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu).unwrap();
    let task: Arc<dyn Task> = Arc::new(task);
    for optimizer in optimizers() {
        let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
        let params = task.init(&mut rng).unwrap();
        let mut network = Network::start(task.clone(), params, optimizer.clone()).unwrap();
        let mut feed = Feed::default();
        let mut step = || {
            network.draw(Split::Train, &mut rng, &mut feed).unwrap();
            network.step(&mut feed).unwrap();
        };
        step();
        let info = measure(|| (0..5).for_each(|_| step()));
        assert_eq!(info.count_total, 0, "{}: {info:?}", optimizer.kind());
    }
}

/// Only candle's in-place operation allocates: a list of the dimensions of a tensor, to check
/// whether its elements overlap.
#[test]
fn a_drop_in_step_allocates_no_tensor_after_the_first() {
    let vars =
        || [(40, 7), (7, 3)].map(|shape| Var::ones(shape, DType::F32, &Device::Cpu).unwrap());
    fn check<O: Optimizer>(optimizer: O, vars: [Var; 2]) {
        let x = Tensor::ones((5, 40), DType::F32, &Device::Cpu).unwrap();
        let y = x.matmul(&vars[0]).unwrap().matmul(&vars[1]).unwrap();
        let store = y.sqr().unwrap().mean_all().unwrap().backward().unwrap();
        let config = DropInConfig::new(optimizer);
        let named = vars
            .into_iter()
            .enumerate()
            .map(|(i, var)| (i.to_string(), var));
        let mut drop_in = DropIn::with_names(named, config).unwrap();
        drop_in.try_step(&store).unwrap();
        let info = measure(|| (0..5).for_each(|_| drop_in.try_step(&store).unwrap()));
        let small = info.count_total <= 5 * 2 && info.bytes_total <= 5 * 2 * 64;
        assert!(small, "{}: {info:?}", drop_in.optimizer().kind());
    }
    check(Star::untrained(), vars());
    check(Blackbox::untrained(), vars());
    check(Adam::default(), vars());
    check(AdamW::default(), vars());
    check(Sgd::default(), vars());
}
