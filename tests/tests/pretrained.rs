//! The shipped θ.

use std::sync::Arc;

use candle_core::Device;
use lopt_adam::Adam;
use lopt_blackbox::Blackbox;
use lopt_core::{LearnedOptimizer, Optimizer, Purpose, Streams};
use lopt_datasets::{DatasetName, Source};
use lopt_star::Star;
use lopt_tasks::{
    Activation, DataStore, Feed, Initializer, MlpConfig, MlpTask, Network, Split, Task,
};

#[test]
fn pretrained_optimizers_have_a_provenance() {
    let (star, blackbox) = (Star::pretrained(), Blackbox::pretrained());
    assert_eq!(star.theta().values(), Star::default().theta().values());
    assert!(star.config().online_scale.is_some() && blackbox.config().online_scale.is_some());
    let (papers, papers_blackbox) = (lopt_star::paper(), lopt_blackbox::paper());
    assert!(papers.config().online_scale.is_none());
    for (theta, count) in [
        (star.theta(), 202),
        (papers.theta(), 202),
        (blackbox.theta(), 197),
        (papers_blackbox.theta(), 197),
    ] {
        assert_eq!(theta.values().len(), count);
        let provenance = theta.provenance();
        assert_eq!(
            provenance["configuration"]["optimizer"]["kind"],
            theta.kind()
        );
        assert!(
            provenance["outer_step"]
                .as_u64()
                .is_some_and(|step| step > 0)
        );
        let commit = provenance["commit"].as_str().unwrap();
        assert!(!commit.contains('+'), "made from a modified tree: {commit}");
        let best = &provenance["held_out_best"][1]["mean_loss"];
        assert!(best.as_f64().is_some_and(|loss| loss < 1.0), "{best}");
    }
}

/// Mean training loss of the last 20 of `steps` steps on Fashion-MNIST, 784-32-10.
fn final_loss(optimizer: Arc<dyn Optimizer>, steps: u64) -> f32 {
    let config = MlpConfig {
        dataset: DatasetName::FashionMnist,
        source: Source::Embedded,
        image_size: 28,
        hidden: vec![32],
        activation: Activation::Relu,
        initializer: Initializer::He,
        batch_size: 128,
        input_scale: 1.0,
        label_noise: 0.0,
    };
    let task = MlpTask::new(config, &mut DataStore::default(), &Device::Cpu).unwrap();
    let task: Arc<dyn Task> = Arc::new(task);
    let stream = |what, t| Streams::new(1).stream(Purpose::Evaluation, what, 0, t);
    let params = task.init(&mut stream(0, 0)).unwrap();
    let mut network = Network::start(task, params, optimizer).unwrap();
    let mut feed = Feed::default();
    let mut sum = 0.0;
    for t in 0..steps {
        network
            .draw(Split::Train, &mut stream(1, t), &mut feed)
            .unwrap();
        let loss = network.step(&mut feed).unwrap().loss;
        if t + 20 >= steps {
            sum += loss / 20.0;
        }
    }
    sum
}

/// Trains a network that they were not meta-trained on.
#[test]
fn pretrained_optimizers_train() {
    let steps = 300;
    let star = final_loss(Arc::new(Star::pretrained()), steps);
    let blackbox = final_loss(Arc::new(Blackbox::pretrained()), steps);
    let untrained = final_loss(Arc::new(Star::untrained()), steps);
    let adam = final_loss(Arc::new(Adam::new(1e-3)), steps);
    assert!(star < untrained && star < adam, "{star} {untrained} {adam}");
    assert!(star < blackbox && blackbox < 1.0, "{star} {blackbox}");
    let paper = final_loss(Arc::new(lopt_star::paper()), steps);
    assert!(
        paper < untrained && paper < adam,
        "{paper} {untrained} {adam}"
    );
}
