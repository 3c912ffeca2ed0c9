//! A training step of candle's MNIST example, 784-128-128-10, with candle's AdamW and with our
//! drop-in optimizers.

use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lopt_adam::Adam;
use lopt_benches::{drop_in::Training, updates::star};
use lopt_blackbox::Blackbox;
use lopt_core::{DropIn, DropInConfig};

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("drop-in step, 784-128-128-10");
    let adam_w = Training::<AdamW>::new(ParamsAdamW::default());
    bench(&mut group, "AdamW", "candle ops", adam_w);
    ours(&mut group, Adam::new(1e-3));
    ours(&mut group, Blackbox::untrained());
    ours(&mut group, star());
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn ours<O: lopt_core::Optimizer>(group: &mut Group, optimizer: O) {
    let kind = optimizer.kind();
    let config = DropInConfig::new(optimizer);
    let training = Training::<DropIn<O>>::new(config);
    let path = training.as_ref().map_or("", |t| t.optimizer().path());
    bench(group, kind, path, training);
}

fn bench<O: Optimizer>(
    group: &mut Group,
    kind: &str,
    path: &str,
    training: candle_core::Result<Training<O>>,
) {
    let mut training = training.expect("a model");
    let id = BenchmarkId::new(kind, path);
    group.bench_function(id, |b| b.iter(|| training.step().expect("a step")));
}

criterion_group!(benches, step);
criterion_main!(benches);
