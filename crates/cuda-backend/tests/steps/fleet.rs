//! Networks that are trained together on the stand-in.

use lopt_cuda_backend::{Classifier, Fleet, MlpFleet};
use lopt_kernels::mlp;

use crate::{
    networks::{BATCH, Images, Shape, rows, shapes, trained},
    stand_in::StandIn,
    subject::{self, Subject, adam, blackbox_of_the_paper, flat},
};

fn fleet(subject: &Subject, classifier: &Classifier) -> Box<dyn Fleet> {
    on(StandIn::new(), subject, classifier)
}

/// Four networks, of which two each have the same minibatches.
fn on(device: StandIn, subject: &Subject, classifier: &Classifier) -> Box<dyn Fleet> {
    let (optimizer, kernels) = (&*subject.optimizer, &subject.kernels);
    let fleet = MlpFleet::new(device, optimizer, kernels, classifier, 4, 2);
    Box::new(fleet.unwrap().unwrap())
}

#[test]
fn networks_take_the_steps_of_the_cpu_kernels() {
    // The first steps of Adam have nearly the size of the learning rate however small a gradient is,
    // and so have the rounding errors of a gradient that is almost zero.
    for (subject, tolerance) in [
        (subject::pretrained(), 1e-5),
        (blackbox_of_the_paper(), 1e-5),
        (adam("adam", None), 1e-4),
    ] {
        for shape in shapes() {
            let difference = trained(&subject, &shape, 12, |all| fleet(&subject, all));
            println!("{} {:?}: {difference:e}", subject.name, shape.0);
            assert!(difference < tolerance, "{}: {difference:e}", subject.name);
        }
    }
}

#[test]
fn each_activation_and_its_slope() {
    let subject = adam("adam", None);
    for activation in mlp::Activation::ALL {
        let shape = Shape(&[30, 21, 9, 4], activation);
        let difference = trained(&subject, &shape, 4, |all| fleet(&subject, all));
        println!("{activation:?}: {difference:e}");
        assert!(difference < 1e-4, "{activation:?}: {difference:e}");
    }
}

/// A network with a gradient that is not finite stays as it is, and the others go on.
#[test]
fn networks_that_diverge_stay_where_they_are() {
    let (subject, shape) = (subject::pretrained(), &shapes()[0]);
    let images = Images::new(shape);
    let mut all = fleet(&subject, &images.classifier(shape, 1.0));
    let start = shape.start();
    for network in 0..4 {
        all.start(network, &start).unwrap();
    }
    let infinite = start.tensors().iter().map(|p| (p * 1e38).unwrap());
    let infinite = start.with_tensors(infinite.collect()).unwrap();
    all.start(1, &infinite).unwrap();
    all.begin(&rows(3, 2)).unwrap();
    for _ in 0..3 {
        all.step().unwrap();
    }
    let taken = all.results().unwrap();
    let values = |network: usize| flat(all.params(network).unwrap().tensors());
    for (at, step) in taken.iter().enumerate() {
        assert_eq!(step.loss.is_finite(), at % 4 != 1, "{taken:?}");
        assert_eq!(step.refused, at % 4 == 1, "{taken:?}");
    }
    assert_eq!(values(1), flat(infinite.tensors()));
    assert_eq!(all.state(1).unwrap().step, 0);
    assert_eq!(all.state(0).unwrap().step, 3);
    assert_ne!(values(0), flat(start.tensors()));
}

#[test]
fn a_network_continues_from_what_was_saved() {
    let (subject, shape) = (subject::pretrained(), &shapes()[0]);
    let images = Images::new(shape);
    let mut all = fleet(&subject, &images.classifier(shape, 1.0));
    for network in 0..4 {
        all.start(network, &shape.start()).unwrap();
    }
    let rows = rows(6, 2);
    let (first, second) = rows.split_at(3 * 2 * BATCH);
    let train = |all: &mut dyn Fleet, rows: &[u32]| {
        all.begin(rows).unwrap();
        for _ in 0..3 {
            all.step().unwrap();
        }
        all.results().unwrap()
    };
    train(&mut *all, first);
    let saved: Vec<_> = (0..4)
        .map(|network| (all.params(network).unwrap(), all.state(network).unwrap()))
        .collect();
    let expected = train(&mut *all, second);
    let mut again = fleet(&subject, &images.classifier(shape, 1.0));
    for (network, (params, state)) in saved.iter().enumerate() {
        again.restore(network, params, state).unwrap();
    }
    assert_eq!(train(&mut *again, second), expected);
}

/// The threads of a block wait for one another where they need to. One network and one step, because
/// each block starts its threads; those of the optimizer's kernels are watched in `lopt-cuda`.
#[test]
fn threads_do_not_race() {
    let Some(device) = StandIn::watched() else {
        return;
    };
    let (subject, shape) = (
        adam("adam", None),
        Shape(&[33, 34, 3], mlp::Activation::Relu),
    );
    let images = Images::new(&shape);
    let mut losses = vec![];
    for device in [device, StandIn::new()] {
        let classifier = images.classifier(&shape, 1.0);
        let (optimizer, kernels) = (&*subject.optimizer, &subject.kernels);
        let fleet = MlpFleet::new(device, optimizer, kernels, &classifier, 1, 1);
        let mut fleet = fleet.unwrap().unwrap();
        fleet.start(0, &shape.start()).unwrap();
        fleet.begin(&rows(1, 1)).unwrap();
        fleet.step().unwrap();
        let params = fleet.params(0).unwrap();
        losses.push((fleet.results().unwrap(), flat(params.tensors())));
    }
    assert_eq!(losses[0], losses[1]);
}

#[test]
fn mistakes_are_refused() {
    let (subject, shape) = (subject::pretrained(), &shapes()[0]);
    let images = Images::new(shape);
    let classifier = images.classifier(shape, 1.0);
    let mut all = fleet(&subject, &classifier);
    assert!(all.step().is_err());
    assert!(all.begin(&[0; 2 * BATCH + 1]).is_err());
    assert!(all.begin(&[60; 2 * BATCH]).is_err());
    assert!(all.set_theta(0, &[0.0]).is_err());
    assert!(all.start(0, &shapes()[1].start()).is_err());
    let labels = [10; 60];
    let wrong = Classifier {
        labels: &labels,
        ..classifier
    };
    let (optimizer, kernels) = (&*subject.optimizer, &subject.kernels);
    assert!(MlpFleet::new(StandIn::new(), optimizer, kernels, &wrong, 4, 2).is_err());
}

#[test]
fn all_memory_is_freed() {
    let (subject, shape) = (subject::pretrained(), &shapes()[0]);
    let (images, device) = (Images::new(shape), StandIn::new());
    let mut all = on(device.clone(), &subject, &images.classifier(shape, 1.0));
    for steps in [1, 3, 2] {
        all.begin(&rows(steps, 2)).unwrap();
    }
    drop(all);
    let counts = device.counts();
    assert_eq!(counts.allocations, counts.freed);
}
