//! One training run, by the kernels compiled for the CPU and by `lopt-kernels`.

use std::fmt::Debug;

use lopt_cuda::{
    Hidden, NetworkSlots, Number, Optimizer, Plan, Rule, Scale, Slots, Spec,
    bytes::bytes_of,
    layout::{Address, Pointers, control},
    theta,
};
use lopt_kernels::{
    Isa,
    per_param::{Decoded, Shape, Weights},
};
use lopt_online_scale::{FusedScale, OnlineScale};

use crate::{
    machine::{Machine, Memory, Threads},
    numbers::{Numbers, nearest, value},
    reference::{PerParameterUpdate, Reference, Update, Values, invalid},
};

/// Of the largest entry of a slot.
const TOLERANCE: f32 = 2e-6;

/// A training run.
pub struct Case {
    pub optimizer: Optimizer,
    pub shapes: Vec<Vec<usize>>,
    pub number: Number,
    /// Whether the parameters were written since their master copies were.
    pub written: bool,
    /// Bytes from an address that all loads could use.
    pub skew: usize,
    /// Whether the slots start as zeros.
    pub fresh: bool,
    /// The steps taken before.
    pub start: u64,
    pub learning_rate: f32,
    /// The gradients of each step.
    pub grads: Vec<Vec<Option<Vec<f32>>>>,
}

/// Gradients of some steps, in \[−0.7·scale, 1.3·scale).
pub fn gradients(shapes: &[Vec<usize>], steps: u64, scale: f32) -> Vec<Vec<Option<Vec<f32>>>> {
    let of_shape =
        |numbers: &mut Numbers, dims: &Vec<usize>| Some(numbers.vec(dims.iter().product(), scale));
    let of_step = |step| {
        let mut numbers = Numbers(1000 + step);
        let of_shape = |dims| of_shape(&mut numbers, dims);
        shapes.iter().map(of_shape).collect()
    };
    let mut all: Vec<Vec<Option<Vec<f32>>>> = (0..steps).map(of_step).collect();
    // Slopes are then no differences of nearly equal numbers.
    let every = all.iter_mut().flatten().flatten().flatten();
    every.for_each(|g| *g += 0.3 * scale);
    all
}

/// The second largest and the largest dimension, as `lopt-per-param` has it.
fn factored_dims(dims: &[usize]) -> Option<(usize, usize)> {
    let mut order: Vec<usize> = (0..dims.len()).collect();
    order.sort_by_key(|&dim| dims[dim]);
    match order.as_slice() {
        [.., second, largest] => Some((*second, *largest)),
        _ => None,
    }
}

/// A θ for the kernels of this width: as those of `lopt-kernels` and those of CUDA read it.
fn theta_of(hidden: Hidden) -> (Decoded, Vec<f32>) {
    fn both<const H: usize>(weights: Weights<H>) -> (Decoded, Vec<f32>)
    where
        Decoded: From<Weights<H>>,
    {
        let values = theta::values(&weights);
        (weights.into(), values)
    }
    match hidden {
        Hidden::H4 => both::<4>(weights()),
        Hidden::H8 => both::<8>(weights()),
        Hidden::H16 => both::<16>(weights()),
        Hidden::H32 => both::<32>(weights()),
    }
}

fn weights<const H: usize>() -> Weights<H> {
    let mut numbers = Numbers(7);
    let scale = 0.5 * (4.0 / H as f32).sqrt();
    Weights {
        momentum_decays: [0.9, 0.99, 0.999],
        rms_decay: 0.999,
        adafactor_decays: [0.9, 0.99, 0.999],
        w0: std::array::from_fn(|_| numbers.array(0.3)),
        b0: numbers.array(0.1),
        w1: std::array::from_fn(|_| numbers.array(scale)),
        b1: numbers.array(0.1),
        w2: std::array::from_fn(|_| numbers.array(scale)),
        b2: numbers.array(0.1),
    }
}

/// The largest errors, relative to the largest entry.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    /// Of parameters and sums of updates together.
    pub parameters: f32,
    /// Of the moments of tensors, and of q and w.
    pub moments: f32,
    pub learners: f32,
}

/// Returns the largest difference over the largest entry, which is at least `least`.
fn difference(what: &dyn Debug, ours: &[f32], theirs: &[f32], least: f32) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "{what:?}");
    let largest = theirs.iter().fold(least, |max, x| max.max(x.abs()));
    let mut worst = 0f32;
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let error = if a == b { 0.0 } else { (a - b).abs() / largest };
        assert!(
            error <= TOLERANCE,
            "{what:?}[{i}]: {a} and {b}, the largest {largest}"
        );
        worst = worst.max(error);
    }
    worst
}

/// Returns the largest difference of rows of the same length, whose largest entries are at least
/// `least`.
fn difference_of_rows(what: &dyn Debug, ours: &[f32], theirs: &[f32], least: &[f32]) -> f32 {
    let size = theirs.len().div_ceil(least.len()).max(1);
    let pairs = ours.chunks(size).zip(theirs.chunks(size));
    let rows = pairs.zip(least).enumerate();
    let differences =
        rows.map(|(row, ((ours, theirs), least))| difference(&(what, row), ours, theirs, *least));
    differences.fold(0.0, f32::max)
}

/// Returns the largest difference of m, v, r and s after some steps.
fn difference_of_learners(what: &dyn Debug, steps: usize, ours: &[f32], theirs: &[f32]) -> f32 {
    let (m, s) = (theirs.iter(), theirs.iter().skip(theirs.len() / 4 * 3));
    // r is a sum of wins and losses, one for each step.
    let largest = m.zip(s).fold(0f32, |max, (m, s)| max.max(m * s));
    let least = [0.0, 0.0, steps as f32 * largest, 0.0];
    difference_of_rows(what, ours, theirs, &least)
}

/// Where everything of a run is.
struct Places {
    plan: Plan,
    tensors: Vec<Place>,
    network: NetworkSlots,
    scratch: Address,
}

/// The addresses of one tensor's memory.
struct Place {
    p: Address,
    slots: Slots,
    grads: Vec<Address>,
}

/// The moments of a tensor: names, addresses and values.
fn moments<'a>(at: &Slots, values: &'a Values) -> [(&'static str, Address, &'a [f32]); 5] {
    [
        ("momentum", at.momentum, &values.momentum),
        ("rms", at.rms, &values.rms),
        ("row", at.row, &values.row),
        ("col", at.col, &values.col),
        ("diagonal", at.diagonal, &values.diagonal),
    ]
}

/// The slots of the network.
fn network(places: &Places, memory: &Memory, reference: &Reference) -> [Vec<f32>; 2] {
    let at = [places.network.gradient_square, places.network.learners];
    [0, 1].map(|slot| memory.floats(at[slot], reference.network[slot].len()))
}

fn online_scale(of: &Scale) -> OnlineScale {
    OnlineScale {
        initial: of.initial,
        learners: of.learners,
        tensor_weight: of.tensor_weight,
        slope_limit: of.slope_limit,
        gradient_rms: of.gradient_rms,
    }
}

impl Case {
    /// Runs it both ways, and with threads and blocks in the opposite order too, which must give
    /// the same bits. Returns the largest errors.
    pub fn check(&self, what: &str) -> Errors {
        let mut reference = self.reference();
        let start = reference.values.clone();
        let (memories, places) = self.run(&reference, Threads::Forwards);
        let (backwards, _) = self.run(&reference, Threads::Backwards);
        assert!(
            memories == backwards,
            "{what}: the order of threads or blocks changes bits"
        );
        let mut errors = Errors::default();
        for (step, (memory, grads)) in memories.iter().zip(&self.grads).enumerate() {
            let skipped = reference.skipped;
            reference.step(self.learning_rate, grads);
            self.check_control(what, &places, memory, step, &reference);
            if reference.skipped > skipped && step > 0 {
                let before = self.everything(&places, &memories[step - 1], &reference);
                let after = self.everything(&places, memory, &reference);
                assert!(before == after, "{what}: a skipped step changed something");
            }
            for (index, place) in places.tensors.iter().enumerate() {
                let (values, at) = (&reference.values[index], &place.slots);
                let what = (what, step, index, &self.shapes[index]);
                for (name, at, values) in moments(at, values) {
                    let ours = memory.floats(at, values.len());
                    let own = difference(&(what, name), &ours, values, 0.0);
                    errors.moments = errors.moments.max(own);
                }
                let [learners, sum] = &values.scale;
                let ours = memory.floats(at.learners, learners.len());
                let own = difference_of_learners(&(what, "learners"), step + 1, &ours, learners);
                errors.learners = errors.learners.max(own);
                // A single update may be a small difference of two terms.
                let ours = [
                    memory.floats(self.parameters(place), values.p.len()),
                    memory.floats(at.sum, sum.len()),
                ];
                let theirs = [&values.p[..], sum].concat();
                let least = start[index].p.iter().fold(0f32, |max, p| max.max(p.abs()));
                let own = difference(&(what, "p and sum"), &ours.concat(), &theirs, least);
                errors.parameters = errors.parameters.max(own);
                if self.number != Number::F32 {
                    let nearest = |p: &f32| nearest(self.number, *p);
                    let expected: Vec<u16> = ours[0].iter().map(nearest).collect();
                    assert_eq!(memory.u16s(place.p, values.p.len()), expected, "{what:?}");
                }
            }
            let [square, learners] = network(&places, memory, &reference);
            let expected = &reference.network;
            let what = (what, step, "network");
            let own = difference_of_rows(&what, &square, &expected[0], &[0.0, 0.0]);
            errors.moments = errors.moments.max(own);
            let own = difference_of_learners(&what, step + 1, &learners, &expected[1]);
            errors.learners = errors.learners.max(own);
        }
        errors
    }

    /// Runs it with the threads of each block at the same time, which must give the same bits as one
    /// after another.
    pub fn check_barriers(&self) {
        let start = self.reference();
        let (expected, _) = self.run(&start, Threads::Forwards);
        let (concurrent, _) = self.run(&start, Threads::Concurrent);
        assert!(expected == concurrent);
    }

    /// Returns the network's learners after the run by `lopt-kernels`.
    pub fn learners(&self) -> Vec<f32> {
        let mut reference = self.reference();
        for grads in &self.grads {
            reference.step(self.learning_rate, grads);
        }
        let [_, learners] = reference.network;
        learners
    }

    /// The address of the parameters in f32.
    fn parameters(&self, place: &Place) -> Address {
        match self.number {
            Number::F32 => place.p,
            _ => place.slots.master,
        }
    }

    /// The counters after a step, and the counts of invalid entries.
    fn check_control(
        &self,
        what: &str,
        places: &Places,
        memory: &Memory,
        step: usize,
        reference: &Reference,
    ) {
        let parity = (step % 2) as u32;
        let counter = |at: usize| memory.u64(places.scratch + at as Address);
        assert_eq!(counter(control::STEP), reference.step, "{what}: steps");
        let skipped = counter(control::SKIPPED);
        assert_eq!(skipped, reference.skipped, "{what}: skipped steps");
        let flag = control::BAD + 4 * step.rem_euclid(2);
        let flag = memory.u32(places.scratch + flag as Address);
        let counts = self.grads[step]
            .iter()
            .map(|g| g.as_deref().map_or(0, invalid));
        let counts: Vec<usize> = counts.collect();
        assert_eq!(flag == 1, counts.iter().any(|count| *count > 0), "{what}");
        for (tensor, count) in counts.iter().enumerate() {
            let at = places.plan.bad_offset(tensor, parity);
            let ours = memory.u32(places.scratch + at as Address);
            assert_eq!(ours as usize, *count, "{what}: invalid entries");
        }
    }

    /// Parameters and slots, bit for bit.
    fn everything(&self, places: &Places, memory: &Memory, reference: &Reference) -> Vec<Vec<f32>> {
        let mut all = network(places, memory, reference).to_vec();
        for (place, values) in places.tensors.iter().zip(&reference.values) {
            let at = &place.slots;
            let moments = moments(at, values);
            all.extend(moments.map(|(_, at, values)| memory.floats(at, values.len())));
            all.push(memory.floats(self.parameters(place), values.p.len()));
            let scale = [at.learners, at.sum].into_iter().zip(&values.scale);
            all.extend(scale.map(|(at, values)| memory.floats(at, values.len())));
        }
        all
    }

    fn reference(&self) -> Reference {
        let scale = self.optimizer.scale.as_ref().map(online_scale);
        let learners = scale.as_ref().map_or(0, |scale| scale.learners);
        let scales_gradients = scale
            .as_ref()
            .is_some_and(|scale| scale.gradient_rms.is_some());
        let (update, is_adam) = match &self.optimizer.rule {
            Rule::Adam(adam) => (Update::Adam(adam.clone()), true),
            Rule::PerParameter(rule) => {
                let (decoded, theta) = theta_of(rule.hidden);
                let rule = rule.clone();
                let update = PerParameterUpdate {
                    decoded,
                    theta,
                    rule,
                };
                (Update::PerParameter(Box::new(update)), false)
            }
        };
        let shape = |dims: &Vec<usize>| Shape::new(dims, factored_dims(dims));
        let shapes: Vec<Shape> = self.shapes.iter().map(shape).collect();
        let mut numbers = Numbers(42);
        let values = shapes.iter().map(|shape| {
            let n = shape.elements();
            let diagonal = match shape {
                Shape::Diagonal(n) if !is_adam => 3 * n,
                _ => 0,
            };
            let mut slot = |n: usize, scale| match self.fresh {
                true => vec![0.0; n],
                false => numbers.positive(n, scale),
            };
            let mut p = Values {
                p: vec![],
                momentum: slot(if is_adam { n } else { 3 * n }, 0.1),
                rms: slot(n, 1e-2),
                row: slot(if is_adam { 0 } else { 3 * shape.rows() }, 1e-2),
                col: slot(if is_adam { 0 } else { 3 * shape.columns() }, 1e-2),
                diagonal: slot(diagonal, 1e-2),
                scale: [
                    vec![0.0; 4 * learners],
                    slot(if learners > 0 { n } else { 0 }, 0.01),
                ],
            };
            p.p = numbers.vec(n, 0.3);
            if self.number != Number::F32 {
                let round = |x: &mut f32| *x = value(self.number, nearest(self.number, *x));
                p.p.iter_mut().for_each(round);
            }
            p
        });
        Reference {
            update,
            scale: FusedScale::new(Isa::best(), scale.as_ref(), shapes.len()),
            values: values.collect(),
            shapes,
            network: [
                vec![0.0; if scales_gradients { 2 } else { 0 }],
                vec![0.0; 4 * learners],
            ],
            step: self.start,
            skipped: 0,
        }
    }

    /// The parameter's or gradient's values in its type.
    fn typed(&self, values: &[f32]) -> Vec<u8> {
        match self.number {
            Number::F32 => bytes_of(values),
            number => {
                let bits = values.iter().map(|x| nearest(number, *x));
                bits.flat_map(u16::to_ne_bytes).collect()
            }
        }
    }

    /// Returns the memory after each step, and where everything is in it.
    fn run(&self, start: &Reference, threads: Threads) -> (Vec<Memory>, Places) {
        let spec = |dims: &Vec<usize>| Spec {
            dims: dims.clone(),
            factored: factored_dims(dims),
            number: self.number,
        };
        let specs: Vec<Spec> = self.shapes.iter().map(spec).collect();
        let plan = Plan::new(&self.optimizer, &specs).unwrap();
        let mut machine = Machine::new(threads);
        let scratch = machine.put(&vec![0; plan.scratch_bytes()], 0);
        machine.write(scratch + control::STEP as u64, &self.start.to_ne_bytes());
        let mut tensors = vec![];
        for (index, values) in start.values.iter().enumerate() {
            let mut floats = |values: &[f32]| match values.is_empty() {
                true => 0,
                false => machine.put(&bytes_of(values), self.skew),
            };
            let slots = Slots {
                momentum: floats(&values.momentum),
                rms: floats(&values.rms),
                row: floats(&values.row),
                col: floats(&values.col),
                diagonal: floats(&values.diagonal),
                learners: floats(&values.scale[0]),
                sum: floats(&values.scale[1]),
                master: match self.number {
                    Number::F32 => 0,
                    _ => {
                        let wrong = if self.written { 0.5 } else { 0.0 };
                        let copy = values.p.iter().map(|p| p + wrong);
                        floats(&copy.collect::<Vec<_>>())
                    }
                },
            };
            let grads = self.grads.iter().map(|grads| match &grads[index] {
                Some(g) => machine.put(&self.typed(g), self.skew),
                None => 0,
            });
            let grads = grads.collect();
            let p = machine.put(&self.typed(&values.p), self.skew);
            tensors.push(Place { p, slots, grads });
        }
        let [gradient_square, learners] = [0, 1].map(|slot| match start.network[slot].is_empty() {
            true => 0,
            false => machine.put(&bytes_of(&start.network[slot]), 0),
        });
        let network = NetworkSlots {
            gradient_square,
            learners,
        };
        let theta = match &start.update {
            Update::PerParameter(update) => update.theta.clone(),
            Update::Adam(_) => vec![],
        };
        let slots: Vec<Slots> = tensors.iter().map(|place| place.slots).collect();
        let constants = machine.put(&plan.constants(scratch, &theta, &slots), 0);
        let places = plan.places(constants, scratch, network);
        for step in 0..self.grads.len() {
            let pointers = tensors.iter().map(|place: &Place| Pointers {
                p: place.p,
                g: place.grads[step],
            });
            let pointers: Vec<Pointers> = pointers.collect();
            for launch in plan.launches() {
                let parity = (step % 2) as u32;
                let arguments =
                    plan.arguments(launch, &places, self.learning_rate, parity, &pointers);
                machine.launch(launch, &arguments);
            }
            machine.print();
        }
        let places = Places {
            plan,
            tensors,
            network,
            scratch,
        };
        (machine.run(), places)
    }
}
