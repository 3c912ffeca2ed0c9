//! The plan of the launches: how many, and over what.

use lopt_cuda::{
    Adam, Hidden, Number, Optimizer, PerParameter, Plan, Rule, Scale, Spec, Unplanned,
    bytes::Bytes,
    layout::{self, Arguments, CAPACITY, LARGEST_ARGUMENT, Pointers},
};
use lopt_kernels::per_param::{Exponent, Formula};

fn optimizer(hidden: Option<Hidden>, per_tensor: bool) -> Optimizer {
    let exponent = Exponent {
        scale: 1e-3,
        shift: 0.0,
        per_tensor,
    };
    let formula = Formula {
        nominal: [0.0; 4],
        nominal_preconditioned: true,
        nominal_exponent: exponent,
        blackbox: 1e-3,
        blackbox_preconditioned: true,
        blackbox_exponent: exponent,
        learning_rate: 1.0,
    };
    let rule = match hidden {
        Some(hidden) => Rule::PerParameter(PerParameter {
            hidden,
            nominal: [0.0, 1e-3, 1e-3, 1e-3],
            formula,
            time_limit: None,
            grows: true,
        }),
        None => Rule::Adam(Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
        }),
    };
    Optimizer {
        rule,
        scale: Some(Scale {
            initial: 0.1,
            learners: 6,
            tensor_weight: 0.5,
            slope_limit: 1.2,
            gradient_rms: Some(0.01),
        }),
    }
}

fn spec(dims: &[usize], factored: Option<(usize, usize)>) -> Spec {
    Spec {
        dims: dims.to_vec(),
        factored,
        number: Number::F32,
    }
}

/// Weights and biases of layers in turn.
fn layers(count: usize) -> Vec<Spec> {
    let weight = spec(&[784, 128], Some((1, 0)));
    let bias = spec(&[128], None);
    [weight, bias].into_iter().cycle().take(count).collect()
}

fn launches(optimizer: &Optimizer, specs: &[Spec]) -> usize {
    Plan::new(optimizer, specs).unwrap().launches().len()
}

#[test]
fn launches_are_few() {
    let star = optimizer(Some(Hidden::H4), false);
    let of_tensors = optimizer(Some(Hidden::H32), true);
    let adam = optimizer(None, false);
    for (count, most) in [(1, 6), (2, 6), (48, 6), (224, 6), (225, 12), (400, 12)] {
        let specs = layers(count);
        assert!(launches(&star, &specs) < most, "{count}");
        assert!(launches(&of_tensors, &specs) <= most, "{count}");
        assert!(launches(&adam, &specs) <= most / 2, "{count}");
    }
    assert_eq!(launches(&of_tensors, &layers(48)), 6);
    assert_eq!(launches(&star, &layers(48)), 5);
    assert_eq!(launches(&adam, &layers(48)), 3);
    assert_eq!(launches(&of_tensors, &layers(400)), 10);
}

#[test]
fn the_argument_is_small() {
    let size = size_of::<Arguments>();
    assert_eq!(size, Arguments::SIZE);
    assert!(size <= LARGEST_ARGUMENT, "{size} bytes");
}

/// A launch has the units of its tensors and their pointers.
#[test]
fn launches_cover_all_tensors() {
    let optimizer = optimizer(Some(Hidden::H8), true);
    let specs = layers(300);
    let plan = Plan::new(&optimizer, &specs).unwrap();
    let pointers: Vec<Pointers> = (0..300).map(|i| Pointers { p: i, g: i + 1 }).collect();
    let (mut tensors, mut blocks) = (0, 0);
    let of_kernel = plan.launches().iter();
    for launch in of_kernel.filter(|launch| launch.kernel == "lopt_apply_8") {
        let places = layout::Plan::default();
        let arguments = plan.arguments(launch, &places, 0.5, 1, &pointers);
        assert_eq!(launch.tensors.start, tensors);
        assert_eq!(arguments.first_tensor as usize, tensors);
        assert_eq!(arguments.first_unit, blocks);
        assert_eq!(arguments.pointers[0], pointers[tensors]);
        assert!(launch.tensors.len() <= CAPACITY);
        tensors = launch.tensors.end;
        blocks += launch.blocks;
    }
    // 784×128 elements are 25 tiles of 16×256 or fewer, and a bias is one.
    assert_eq!((tensors, blocks), (300, 150 * 25 + 150));
}

/// Without a tensor, the network's learners still step.
#[test]
fn empty_tensors_need_no_block() {
    let optimizer = optimizer(Some(Hidden::H4), false);
    for specs in [vec![], vec![spec(&[0], None), spec(&[0, 5], Some((0, 1)))]] {
        let plan = Plan::new(&optimizer, &specs).unwrap();
        let kernels: Vec<&str> = plan.launches().iter().map(|l| &*l.kernel).collect();
        assert_eq!(kernels, ["lopt_finish_4"]);
    }
}

#[test]
fn scratch_memory_is_small_for_large_tensors() {
    let star = optimizer(Some(Hidden::H4), false);
    let plan = Plan::new(&star, &[spec(&[4096, 4096], Some((0, 1)))]).unwrap();
    let parameters = 4 * 4096 * 4096;
    assert!(
        plan.scratch_bytes() < parameters / 8,
        "{}",
        plan.scratch_bytes()
    );
    assert!(
        plan.constant_bytes() < parameters / 500,
        "{}",
        plan.constant_bytes()
    );
}

#[test]
fn what_the_kernels_cannot_index_is_refused() {
    let star = optimizer(Some(Hidden::H4), false);
    let large = spec(&[1 << 16, 1 << 16], Some((0, 1)));
    let problem = Plan::new(&star, &[spec(&[3], None), large]).err();
    assert_eq!(problem, Some(Unplanned::TooLarge { tensor: 1 }));
    let many = vec![spec(&[1 << 30], None); 1 << 17];
    let problem = Plan::new(&star, &many).err();
    assert_eq!(problem, Some(Unplanned::TooLargeTogether));
    let mut scaled = star;
    scaled.scale.as_mut().unwrap().learners = 8;
    let problem = Plan::new(&scaled, &[]).err();
    assert_eq!(problem, Some(Unplanned::Learners));
}
