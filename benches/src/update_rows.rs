//! Rows of the table for optimizer updates alone, on one thread.

use lopt_adam::Adam;
use lopt_benches::{
    timing::medians,
    updates::{FusedSteps, OpSteps, Tensors, four_sizes, star},
};
use lopt_kernels::Isa;

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

/// A complete step of STAR compared with a step of our fused Adam.
pub fn beside_adam(rounds: usize) -> Vec<Row> {
    let of_size = |tensors: Tensors| {
        let (star, adam) = (star(), Adam::new(1e-3));
        let (params, grads) = tensors.random();
        let isa = Isa::best();
        let update = star.fused_by(isa, &tensors.shapes);
        let update = update.expect("the default STAR has a fused update");
        let mut ours = FusedSteps::new(&star, update, &params, &grads);
        let mut adams = FusedSteps::new(&adam, adam.fused_by(isa), &params, &grads);
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
