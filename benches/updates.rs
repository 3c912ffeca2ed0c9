//! Optimizer updates alone, with each instruction set of the kernels and in candle ops, and the
//! step features.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lopt_adam::Adam;
use lopt_benches::updates::{FusedSteps, OpSteps, Tensors, star};
use lopt_blackbox::Blackbox;
use lopt_core::Optimizer;
use lopt_kernels::{Isa, per_param::features::step_features};

fn updates(c: &mut Criterion) {
    let (adam, blackbox, star) = (Adam::new(1e-3), Blackbox::untrained(), star());
    let tensors = [
        Tensors {
            name: "784x32",
            shapes: vec![vec![784, 32]],
        },
        Tensors {
            name: "1024x1024",
            shapes: vec![vec![1024, 1024]],
        },
        Tensors {
            name: "64x64x3x3",
            shapes: vec![vec![64, 64, 3, 3]],
        },
    ];
    for tensors in tensors {
        let (params, grads) = tensors.random();
        let mut group = c.benchmark_group(format!("update {}", tensors.name));
        group.throughput(Throughput::Elements(tensors.numel() as u64));
        for isa in Isa::all() {
            let fused: [(&dyn Optimizer, _); 3] = [
                (&adam, Some(adam.fused_by(isa, tensors.shapes.len()))),
                (&blackbox, blackbox.fused_by(isa, &tensors.shapes)),
                (&star, star.fused_by(isa, &tensors.shapes)),
            ];
            for (optimizer, update) in fused {
                let update = update.expect("a fused update");
                let mut steps = FusedSteps::new(optimizer, update, &params, &grads);
                let id = BenchmarkId::new(optimizer.kind(), isa);
                group.bench_function(id, |b| b.iter(|| steps.step()));
            }
        }
        let mut steps = OpSteps::new(&star, params, grads);
        group.sample_size(10);
        group.bench_function("star/candle ops", |b| b.iter(|| steps.step()));
    }
}

fn features(c: &mut Criterion) {
    c.bench_function("step features", |b| b.iter(|| step_features(black_box(7))));
}

criterion_group!(benches, updates, features);
criterion_main!(benches);
