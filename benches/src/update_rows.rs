//! Rows of the table for optimizer updates alone.

use std::num::NonZeroUsize;

use lopt_adam::Adam;
use lopt_benches::{
    timing::medians,
    updates::{FusedSteps, OpSteps, Tensors, four_sizes, star, star_of},
};
use lopt_core::{Backend, Fused, Optimizer, StepContext, Workers};
use lopt_kernels::Isa;
use lopt_online_scale::OnlineScale;
use lopt_star::{Config, Star};

use crate::table::{Row, Target};

/// STAR on one tensor with each instruction set, widest first, and the speedup of the widest over
/// candle ops.
pub fn by_instance(rounds: usize) -> Vec<Row> {
    let one = |name, shape: &[usize]| Tensors {
        name,
        shapes: vec![shape.to_vec()],
    };
    let mut rows = vec![];
    for tensors in [one("784×32", &[784, 32]), one("1024×1024", &[1024, 1024])] {
        let star = star();
        let (params, grads) = tensors.random();
        let mut ops = OpSteps::new(&star, params.clone(), grads.clone());
        let [ops] = medians(rounds, [&mut || ops.step()]);
        for isa in Isa::all().into_iter().rev() {
            let update = star.fused_by(isa, &tensors.shapes);
            let update = update.expect("the default STAR has a fused update");
            let mut fused = FusedSteps::new(&star, update, &params, &grads);
            let [fused] = medians(rounds, [&mut || fused.step()]);
            let work = format!("STAR update, {}, {isa}", tensors.name);
            let per_parameter = 1e9 * fused / tensors.numel() as f64;
            let target = match isa.name() {
                "avx512" => Target::AtMost(2.5),
                "avx2" => Target::AtMost(4.5),
                _ => Target::None,
            };
            rows.push(Row::new(&work, per_parameter, "ns/parameter").target(target));
            if isa == Isa::best() {
                let ratio = Row::new(&work, ops / fused, "× faster than candle ops, all cores");
                rows.push(ratio.target(Target::AtLeast(100.0)));
            }
        }
    }
    rows
}

/// A step of 5 or 10 million parameters on two threads, with its checks of gradients: the efficiency is
/// the time on one thread over twice that on two.
pub fn threads(rounds: usize) -> Vec<Row> {
    let [.., layers] = four_sizes();
    let matrix = Tensors {
        name: "one matrix",
        shapes: vec![vec![3200, 3200]],
    };
    // Six transformer blocks of width 256; no tensor is large enough to be divided.
    let block: [&[usize]; 10] = [
        &[256, 768],
        &[768],
        &[256, 256],
        &[256],
        &[256, 1024],
        &[1024],
        &[1024, 256],
        &[256],
        &[256],
        &[256],
    ];
    let blocks = Tensors {
        name: "six transformer blocks",
        shapes: (0..6).flat_map(|_| block).map(<[usize]>::to_vec).collect(),
    };
    let star = Star::pretrained();
    let mut rows = vec![];
    for tensors in [layers, matrix, blocks] {
        let steps = |threads| {
            let (params, grads) = tensors.random();
            let fused = Fused::new(&star, &params).expect("a state");
            let mut fused = fused.expect("a fused update");
            fused.use_workers(Workers::new(NonZeroUsize::new(threads)));
            let star = &star;
            move || {
                let context = StepContext::new(fused.steps(), star.learning_rate());
                let step = fused.step(star, &context, &params, &grads);
                step.expect("valid gradients");
            }
        };
        let [one, two] = medians(rounds, [&mut steps(1), &mut steps(2)]);
        let (n, name) = (tensors.numel(), tensors.name);
        let work = format!("STAR with an online scale, {n} parameters ({name})");
        for (threads, seconds) in [("one thread", one), ("two threads", two)] {
            let work = format!("{work}, {threads}");
            rows.push(Row::new(work, 1e9 * seconds / n as f64, "ns/parameter"));
        }
        let efficiency = Row::new(format!("{work}, efficiency"), one / two / 2.0, "");
        rows.push(efficiency.target(Target::AtLeast(0.9)));
    }
    rows
}

/// The time of a step of STAR with an online scale, in steps of STAR without.
pub fn online_scale(rounds: usize) -> Vec<Row> {
    let of_size = |tensors: Tensors| {
        let (plain, scaled) = (
            star(),
            star_of(Config {
                online_scale: Some(OnlineScale::default()),
                ..Config::default()
            }),
        );
        let (params, grads) = tensors.random();
        let steps = |star: &Star| {
            let update = star.fused_by(Isa::best(), &tensors.shapes);
            let update = update.expect("the default STAR has a fused update");
            FusedSteps::new(star, update, &params, &grads)
        };
        let (mut plain, mut scaled) = (steps(&plain), steps(&scaled));
        let [plain, scaled] = medians(rounds, [&mut || plain.step(), &mut || scaled.step()]);
        let work = format!("STAR step with an online scale, {}", tensors.name);
        let row = Row::new(&work, scaled / plain, "steps without");
        row.target(Target::AtMost(1.25))
    };
    let sizes = [
        Tensors::mlp("64-32-10", &[64, 32, 10]),
        Tensors::mlp("784-128-128-10", &[784, 128, 128, 10]),
        Tensors::mlp("1024-1024-1024", &[1024, 1024, 1024]),
    ];
    sizes.into_iter().map(of_size).collect()
}

/// A complete step of STAR compared with a step of our fused Adam.
pub fn beside_adam(rounds: usize) -> Vec<Row> {
    let of_size = |tensors: Tensors| {
        let (star, adam) = (star(), Adam::new(1e-3));
        let (params, grads) = tensors.random();
        let isa = Isa::best();
        let update = star.fused_by(isa, &tensors.shapes);
        let update = update.expect("the default STAR has a fused update");
        let mut ours = FusedSteps::new(&star, update, &params, &grads);
        let mut adams = FusedSteps::new(
            &adam,
            adam.fused_by(isa, tensors.shapes.len()),
            &params,
            &grads,
        );
        let [ours, adams] = medians(rounds, [&mut || ours.step(), &mut || adams.step()]);
        let n = tensors.numel();
        let work = format!("step, {n} parameters ({}), {isa}", tensors.name);
        let per_parameter = |seconds: f64| 1e9 * seconds / n as f64;
        [
            Row::new(format!("STAR {work}"), per_parameter(ours), "ns/parameter"),
            Row::new(format!("Adam {work}"), per_parameter(adams), "ns/parameter"),
            Row::new(
                format!("STAR over Adam, {n} parameters"),
                1e3 * (ours - adams),
                "ms/step more",
            ),
        ]
    };
    four_sizes().into_iter().flat_map(of_size).collect()
}
