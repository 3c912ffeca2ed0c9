//! An evaluation on `cuda:0`: on a GPU, or without one on the stand-in for the driver, with few of
//! candle's kernels.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use candle_core::Device;
use lopt_core::Workers;
use lopt_eval::{Baseline, Contender, Evaluation, Outcome, Settings, TaskReport, Tuning, evaluate};
use lopt_star::Star;
use lopt_tasks::{DataStore, suite::Suite};

/// Evaluates STAR on one task, against Adam with one learning rate.
fn evaluated(device: &Device, out: &Path) -> TaskReport {
    let contenders = [Contender::learned("star", Arc::new(Star::pretrained()))];
    let mut settings = Settings::new(Suite::Quick, 1, "test".to_owned(), &contenders);
    settings.groups = vec!["in-distribution".to_owned()];
    settings.tuned = vec![Tuning {
        baseline: Baseline::Adam,
        grid: vec![1e-2],
    }];
    settings.adam_horizons = 2;
    let evaluation = Evaluation {
        settings: &settings,
        contenders: &contenders,
        device,
        workers: Workers::ONE,
        out,
        reuse: None,
        stop: &AtomicBool::new(false),
    };
    let mut reports = evaluate(evaluation, &mut DataStore::default(), &|_| {}).unwrap();
    reports.remove(0)
}

#[test]
fn an_evaluation_on_a_gpu_is_that_on_the_cpu() {
    let folder = tempfile::tempdir().unwrap();
    let gpu = lopt_core::device::parse("cuda:0").unwrap();
    let of = |device, name| match evaluated(device, &folder.path().join(name)).outcome {
        Outcome::Done { results, .. } => results,
        Outcome::Skipped { reason } => panic!("{reason}"),
    };
    let (ours, theirs) = (of(&gpu, "gpu"), of(&Device::Cpu, "cpu"));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let name = &ours.name;
        assert_eq!((name, ours.diverged), (&theirs.name, 0));
        let close = |ours: &[f64], theirs: &[f64], tolerance: f64| {
            let mut pairs = ours.iter().zip(theirs);
            let close = pairs.all(|(a, b)| (a - b).abs() < tolerance);
            assert!(close, "{name}: {ours:?}, on the CPU {theirs:?}");
        };
        // Steps repeat the errors of rounding.
        close(&ours.mean_losses, &theirs.mean_losses, 1e-2);
        close(&ours.final_losses, &theirs.final_losses, 3e-2);
        close(&ours.test_accuracies, &theirs.test_accuracies, 3e-2);
        println!("{name}: {:?}, {:?}", ours.final_losses, theirs.final_losses);
    }
    assert_eq!(ours.len(), theirs.len());
    // Tuned Adam had to go on after its horizon.
    let [ours, theirs] = [ours, theirs].map(|of| of[0].speed_up.as_ref().unwrap().ratio);
    println!("speed-up: {ours}, {theirs}");
    assert!(
        ours > 1.0 && (ours / theirs - 1.0).abs() < 0.1,
        "{ours}, on the CPU {theirs}"
    );
}
