//! One meta-gradient of PES: 8 antithetic pairs × 50 inner steps of STAR, batch 128.

use std::{sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use lopt_benches::inner::{NETWORKS, Path};
use lopt_core::{Rng, Workers};
use lopt_meta::{Alone, Driver, GradientEstimator, Horizon, TruncatedConfig, TruncatedEs};
use lopt_tasks::{Task, TaskFamily};

/// A family with a single task.
struct Only(Arc<dyn Task>);

impl TaskFamily for Only {
    fn sample(&self, _: &mut Rng) -> Arc<dyn Task> {
        self.0.clone()
    }
}

fn truncation(c: &mut Criterion) {
    let mut group = c.benchmark_group("PES truncation, 8 pairs x 50 steps");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3))
        .throughput(Throughput::Elements(2 * 8 * 50));
    for size in NETWORKS {
        for path in Path::ALL {
            let (task, optimizer) = path.task_and_star(size);
            let config = TruncatedConfig {
                tasks: 8,
                truncation: 50,
                sigma: 0.01,
                horizon: Horizon::Constant { steps: 2000 },
                sign: None,
            };
            let family = Arc::new(Only(task));
            let (pes, workers) = (TruncatedEs::pes(config), Workers::new(None));
            let pes = Driver::new(pes, 0, family, workers, &*optimizer, &Alone);
            let mut pes = pes.expect("unrolls");
            let mut outer_step = 0;
            group.bench_function(BenchmarkId::new(size.to_string(), pes.path()), |b| {
                b.iter(|| {
                    pes.estimate(&*optimizer, outer_step, &Alone)
                        .expect("an estimate");
                    outer_step += 1;
                });
            });
        }
    }
}

criterion_group!(benches, truncation);
/// Runs candle on one thread, as in meta-training.
fn main() {
    lopt_core::one_candle_thread().expect("the program to start again");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
