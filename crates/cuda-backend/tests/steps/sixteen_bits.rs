//! Variables in f16 and bf16.

use candle_core::{DType, Device, Tensor, Var};
use lopt_adam::Adam;
use lopt_core::{Clip, DropIn, DropInConfig, Group, NonFinite, Optimizer};
use lopt_star::Star;

use crate::{
    on_stand_in::OnStandIn,
    stand_in::Counts,
    subject::{self, Subject, difference, flat, tensor},
};

/// Three variables, the last of them in f32.
fn variables(dtype: DType) -> [(String, Var); 3] {
    let shapes: [(&[usize], DType); 3] =
        [(&[17, 33], dtype), (&[40], dtype), (&[6, 5], DType::F32)];
    let variable = |(index, (dims, dtype)): (usize, (&[usize], DType))| {
        let values = tensor(dims, index as u64, 0).to_dtype(dtype).unwrap();
        (format!("v{index}"), Var::from_tensor(&values).unwrap())
    };
    let [a, b, c] = shapes;
    [(0, a), (1, b), (2, c)].map(variable)
}

fn drop_in<O: Optimizer>(
    optimizer: O,
    variables: &[(String, Var)],
    change: impl Fn(&mut DropInConfig<O>),
) -> DropIn<O> {
    let mut config = DropInConfig {
        non_finite: NonFinite::Skip,
        ..DropInConfig::new(optimizer)
    };
    change(&mut config);
    DropIn::with_names(variables.to_vec(), config).unwrap()
}

/// The step whose gradients are invalid.
const INVALID: u64 = 9;

/// Takes a step with the same gradients in any training.
fn step<O: Optimizer>(drop_in: &mut DropIn<O>, variables: &[(String, Var)], number: u64) {
    let zero = Tensor::zeros((), DType::F32, &Device::Cpu).unwrap();
    let mut store = zero.backward().unwrap();
    for (index, (_, var)) in variables.iter().enumerate() {
        // One of them has no gradient in some steps, and one a gradient of another type.
        if (number + index as u64) % 5 != 4 {
            let gradient = tensor(var.dims(), 10 + index as u64, number);
            let mut gradient = gradient.to_dtype(var.dtype()).unwrap();
            if number == INVALID {
                gradient = (gradient * f64::NAN).unwrap();
            }
            if index == 1 && var.dtype() != DType::F32 {
                gradient = gradient.to_dtype(DType::F32).unwrap();
            }
            store.insert(var, gradient);
        }
    }
    drop_in.try_step(&store).unwrap();
}

fn values(variables: &[(String, Var)]) -> Vec<f32> {
    let all = variables.iter().map(|(_, var)| var.to_dtype(DType::F32));
    flat(&all.collect::<Result<Vec<_>, _>>().unwrap())
}

/// On the CPU the same is computed with copies in f32. Someone else writes to a variable in between, and
/// the gradients of the next step are invalid.
fn same_as_on_the_cpu<O: Optimizer + Clone>(
    subject: impl Fn() -> Subject,
    on_cpu: &O,
    with_groups: bool,
    clip: Option<Clip>,
) {
    let groups = || {
        let matrices = Group::new("matrices", |_, dims| dims.len() == 2);
        vec![matrices.factor(0.5).weight_decay(0.1)]
    };
    for (dtype, ulp) in [(DType::F16, 1e-3), (DType::BF16, 8e-3)] {
        let (ours, theirs) = (variables(dtype), variables(dtype));
        let subject = OnStandIn::from(subject());
        let what = format!(
            "{}, {dtype:?}, groups {with_groups}, {clip:?}",
            subject.name
        );
        let groups = || if with_groups { groups() } else { vec![] };
        let mut on_device = drop_in(subject, &ours, |config| {
            (config.groups, config.clip) = (groups(), clip);
        });
        let mut on_cpu = drop_in(on_cpu.clone(), &theirs, |config| {
            (config.groups, config.clip) = (groups(), clip);
        });
        assert_eq!(on_device.path(), "cuda");
        for number in 0..20 {
            if number == INVALID {
                let loaded = tensor(&[40], 7, 7).to_dtype(dtype).unwrap();
                ours[1].1.set(&loaded).unwrap();
                theirs[1].1.set(&loaded).unwrap();
            }
            step(&mut on_device, &ours, number);
            step(&mut on_cpu, &theirs, number);
            if number == INVALID {
                assert_eq!(on_device.skipped_steps().unwrap(), 1, "{what}");
            }
        }
        let slots = |state: lopt_core::State| flat(state.all_slots().map(|slot| &slot.value));
        let [a, b] = [on_device.state().unwrap(), on_cpu.state().unwrap()].map(slots);
        let of_slots = difference(&a, &b);
        let of_variables = difference(&values(&ours), &values(&theirs));
        println!("{what}: slots {of_slots:e}, variables {of_variables:e}");
        assert!(of_slots < 1e-5 && of_variables < ulp, "{what}");
    }
}

#[test]
fn steps_are_those_of_copies_in_f32() {
    for with_groups in [false, true] {
        same_as_on_the_cpu(subject::pretrained, &Star::pretrained(), with_groups, None);
        let adam = || subject::adam("adam", None);
        same_as_on_the_cpu(adam, &Adam::new(1e-2), with_groups, None);
    }
}

/// Clipping needs gradients in f32, and so copies that candle rounds.
#[test]
fn clipped_steps_are_those_of_copies_in_f32() {
    let clip = Some(Clip::GlobalNorm(0.5));
    same_as_on_the_cpu(subject::pretrained, &Star::pretrained(), false, clip);
}

/// A variable that the kernels cannot read has a copy that they can.
#[test]
fn variables_need_not_be_contiguous() {
    let variables = || {
        let transposed = tensor(&[6, 5], 0, 0)
            .to_dtype(DType::BF16)
            .unwrap()
            .t()
            .unwrap();
        [("v".to_owned(), Var::from_tensor(&transposed).unwrap())]
    };
    let (ours, theirs) = (variables(), variables());
    let mut on_device = drop_in(OnStandIn::from(subject::pretrained()), &ours, |_| {});
    let mut on_cpu = drop_in(Star::pretrained(), &theirs, |_| {});
    for number in 0..3 {
        step(&mut on_device, &ours, number);
        step(&mut on_cpu, &theirs, number);
    }
    let apart = difference(&values(&ours), &values(&theirs));
    assert!(apart < 8e-3, "{apart:e}");
}

#[test]
fn a_step_only_launches() {
    let variables = variables(DType::BF16);
    let subject = OnStandIn::from(subject::pretrained());
    let stand_in = subject.stand_in.clone();
    let mut drop_in = drop_in(subject, &variables, |_| {});
    stand_in.counts();
    for number in 0..3 {
        step(&mut drop_in, &variables, number);
        let counts = stand_in.counts();
        assert_eq!(counts.launches.len(), 5);
        let nothing_else = Counts {
            launches: counts.launches.clone(),
            ..Counts::default()
        };
        assert_eq!(counts, nothing_else);
    }
}

/// The copies in f32 are part of the state: without them, small steps would be lost.
#[test]
fn copies_are_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    let (whole, parts) = (variables(DType::BF16), variables(DType::BF16));
    let new = |variables| drop_in(OnStandIn::from(subject::pretrained()), variables, |_| {});
    let mut uninterrupted = new(&whole);
    (0..8).for_each(|number| step(&mut uninterrupted, &whole, number));

    let mut first = new(&parts);
    (0..4).for_each(|number| step(&mut first, &parts, number));
    first.save_state(&path).unwrap();
    let mut second = new(&parts);
    second.load_state(&path).unwrap();
    (4..8).for_each(|number| step(&mut second, &parts, number));
    assert_eq!(values(&parts), values(&whole));
}
