//! MLP forward and backward passes with each instruction set of the kernels, and complete inner
//! steps of STAR on each path.

use criterion::{BenchmarkId, Criterion, criterion_group};
use lopt_benches::inner::{NETWORKS, Path, Training};
use lopt_core::{Purpose, Streams, normal};
use lopt_kernels::{
    Isa,
    mlp::{Activation, Layer, Mlp, Workspace},
};

const BATCH: usize = 128;

fn forward_backward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward and backward, batch 128");
    for size in NETWORKS {
        let sizes = size.sizes();
        let mut end = 0;
        let layers = sizes.windows(2).map(|pair| {
            let weight = end;
            end += (pair[0] + 1) * pair[1];
            Layer {
                inputs: pair[0],
                outputs: pair[1],
                weight,
                bias: end - pair[1],
            }
        });
        let mlp = Mlp::new(layers.collect(), Activation::Relu);
        let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
        let mut random =
            |n, scale: f32| -> Vec<f32> { (0..n).map(|_| scale * normal(&mut rng)).collect() };
        let (params, x) = (random(end, 0.1), random(BATCH * sizes[0], 1.0));
        let labels: Vec<u8> = (0..BATCH).map(|i| (i % 10) as u8).collect();
        let (mut grads, mut workspace) = (vec![0.0; end], Workspace::default());
        for isa in Isa::all() {
            let id = BenchmarkId::new(size.to_string(), isa);
            group.bench_function(id, |b| {
                b.iter(|| mlp.loss_and_grad(isa, &params, &x, &labels, &mut grads, &mut workspace));
            });
        }
    }
}

fn inner_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("inner step of STAR, batch 128");
    for size in NETWORKS {
        for path in Path::ALL {
            let mut training = Training::new(path, size);
            group.sample_size(if path == Path::Native { 100 } else { 10 });
            let id = BenchmarkId::new(size.to_string(), training.path());
            group.bench_function(id, |b| b.iter(|| training.step()));
        }
    }
}

criterion_group!(benches, forward_backward, inner_step);
/// Runs candle on one thread, as in meta-training.
fn main() {
    lopt_core::one_candle_thread().expect("the program to start again");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
