//! Task families: their configurations, their draws, and meta-training on a mixture.

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use candle_core::{Device, Tensor};
use lopt_core::{Purpose, Rng, Streams, Workers};
use lopt_datasets::{DatasetName, cifar, files};
use lopt_meta::{Observer, Preset, Progress, Resources, RunConfig, Trainer};
use lopt_tasks::{DataStore, Split, Task, TaskConfig, TaskFamily, TaskFamilyConfig};
use lopt_tests::{flat, relative_error};

const IMAGES: &str =
    r#"[{ kind = "images", dataset = "mnist", source = "embedded", image-size = 8 }]"#;
const TEXT: &str = r#"[{ kind = "text", length = 5 }]"#;

const MLP: &str = r#"
    dataset = ["fashion-mnist", "mnist"]
    source = "embedded"
    image-size = [8]
    hidden = [[4], [8, 8]]
    activation = ["relu"]
    initializer = ["he"]
    batch-size = [16]
"#;

fn model(kind: &str, keys: &str) -> String {
    let data = match kind {
        "lstm" | "transformer" | "gru" | "vanilla-lstm" | "embedding-bag" => TEXT,
        _ => IMAGES,
    };
    format!("kind = \"{kind}\"\nwidth = [4]\ndata = {data}\nbatch-size = [2]\n{keys}")
}

/// Every architecture with the keys that it needs besides those of all.
fn models() -> Vec<String> {
    [
        ("layer-norm-mlp", "depth = [0, 2]"),
        ("conv-net", "depth = [1, 2]"),
        ("res-net", "depth = [1, 2]"),
        ("lstm", "depth = [1]"),
        ("transformer", "depth = [1, 2]\nheads = [1, 2]"),
        ("feed-forward", "depth = [0, 2]"),
        ("mlp-mixer", "depth = [1, 2]"),
        ("gru", "depth = [1]"),
        ("vanilla-lstm", "depth = [1]"),
        ("embedding-bag", "depth = [1]"),
    ]
    .map(|(kind, keys)| model(kind, keys))
    .to_vec()
}

/// An MLP, a conv net and a transformer with the weights 3, 1 and 2.
fn mixture() -> String {
    let member = |weight: &str, task: &str| {
        let task = task.trim().replace('\n', ", ");
        format!("{{ weight = {weight}, task = {{ {task} }} }}")
    };
    let [mlp, conv, transformer] = [
        member("3", MLP),
        member("1.0", &model("conv-net", "depth = [2]")),
        member("2.0", &model("transformer", "depth = [1]\nheads = [2]")),
    ];
    format!("kind = \"mixture\"\nfamilies = [{mlp}, {conv}, {transformer}]\n")
}

fn parse(text: &str) -> Result<TaskFamilyConfig, toml::de::Error> {
    toml::from_str(text)
}

fn load(text: &str) -> lopt_tasks::Result<Arc<dyn TaskFamily>> {
    parse(text)
        .unwrap()
        .load(&mut DataStore::default(), &Device::Cpu)
}

fn rng(a: u64) -> Rng {
    Streams::new(1).stream(Purpose::TaskSample, a, 0, 0)
}

/// What files of earlier versions hold is written again as it was: θ's provenance has it.
#[test]
fn mlp_families_have_no_kind() {
    let range = format!("{MLP}\nreparametrize = [0.1, 10.0]");
    let json = |end: &str| {
        let keys = r#"{"dataset":["fashion-mnist","mnist"],"source":"embedded","image-size":[8],"#;
        let more = r#""hidden":[[4],[8,8]],"activation":["relu"],"initializer":["he"],"#;
        format!("{keys}{more}\"batch-size\":[16]{end}")
    };
    for (text, json) in [
        (MLP, json("}")),
        (&range, json(r#","reparametrize":[0.1,10.0]}"#)),
    ] {
        let config = parse(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<TaskFamilyConfig>(&json).unwrap(),
            config
        );
    }
    let named = parse(&format!("kind = \"mlp\"\n{MLP}")).unwrap();
    assert_eq!(named, parse(MLP).unwrap());
}

#[test]
fn configurations_survive_a_round_trip() {
    let shared = format!("{}reparametrize = {{ shared = [0.5, 2.0] }}", mixture());
    for text in models().iter().chain([&mixture(), &shared]) {
        let config = parse(text).unwrap();
        let toml = toml::to_string_pretty(&config).unwrap();
        assert_eq!(parse(&toml).unwrap(), config, "{toml}");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<TaskFamilyConfig>(&json).unwrap(),
            config
        );
    }
}

/// All combinations are drawn, and each has a finite loss and gradient.
#[test]
fn every_model_makes_a_family() {
    for text in models() {
        let config = parse(&text).unwrap();
        let family = load(&text).unwrap();
        for index in 0..8 {
            let task = family.sample(&mut rng(index));
            let params = task.init(&mut rng(0)).unwrap();
            let batch = task.batch(Split::Train, &mut rng(1)).unwrap();
            let (loss, grads) = task.loss_and_grad(&params, &batch).unwrap();
            assert!(loss.is_finite(), "{text}: {loss}");
            let mut grads = grads.tensors().iter().flatten().flat_map(flat);
            assert!(grads.all(f64::is_finite), "{text}");
        }
        let first = config.first_task().unwrap();
        let TaskConfig::Model(task) = &first else {
            panic!("{first:?}");
        };
        assert_eq!(task.batch_size, 2);
        assert!(config.to_string().starts_with(task.model.kind().name()));
        assert!(first.load(&mut DataStore::default(), &Device::Cpu).is_ok());
    }
}

/// A family over data with squared errors: the meta-loss is in units of the targets' variance, and
/// its slope is the derivative, with and without factors on the parameters.
#[test]
fn squared_errors_in_a_family() {
    let data = r#"[
        { kind = "tabular", seed = 5 },
        { kind = "autoencoding", dataset = "mnist", source = "embedded", image-size = 7 },
    ]"#;
    for factors in ["", "reparametrize = { shared = [0.1, 10.0] }"] {
        let text = format!(
            "kind = \"feed-forward\"\nwidth = [8]\ndepth = [1]\nbatch-size = [4]\n\
             data = {data}\n{factors}"
        );
        let family = load(&text).unwrap();
        let mut names: Vec<String> = (0..40).map(|i| family.sample(&mut rng(i)).name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2, "{names:?}");
        for task in (0..10).map(|i| family.sample(&mut rng(i))) {
            // Tables have a variance of about 1, pixels one of about 0.06.
            let loss = 0.04f32;
            let h = 1e-3;
            let difference = (task.normalize(loss + h) - task.normalize(loss - h)) / (2.0 * h);
            let slope = task.normalize_slope(loss);
            assert!((slope / difference - 1.0).abs() < 1e-3, "{}", task.name());
            let pixels = task.name().contains("autoencoding");
            assert_eq!(slope > 5.0, pixels, "{}: {slope}", task.name());
            assert_eq!(task.normalize_slope(1e3), 0.0);
        }
    }
}

#[test]
fn mixtures_follow_their_weights() {
    let family = load(&mixture()).unwrap();
    const DRAWS: u64 = 6000;
    let mut counts = [0.0; 3];
    for index in 0..DRAWS {
        let name = family.sample(&mut rng(index)).name();
        let kinds = ["relu", "conv-net", "transformer"];
        let kind = kinds.iter().position(|kind| name.contains(kind));
        counts[kind.unwrap()] += 1.0;
    }
    // Four standard deviations of a count are below 160.
    for (count, share) in counts.iter().zip([3.0 / 6.0, 1.0 / 6.0, 2.0 / 6.0]) {
        let expected: f64 = share * DRAWS as f64;
        assert!((count - expected).abs() < 160.0, "{counts:?}");
    }
    let first = parse(&mixture()).unwrap().first_task().unwrap();
    assert!(matches!(first, TaskConfig::Mlp(_)), "{first:?}");
}

/// φ = c·φ' with one c: the loss is the same, the gradient is c times as large. A mixture's
/// setting is that of its families.
#[test]
fn one_factor_for_all_tensors() {
    let shared = "\nreparametrize = { shared = [0.1, 10.0] }";
    for text in models().into_iter().chain([MLP.to_owned(), mixture()]) {
        let plain = load(&text).unwrap();
        let scaled = load(&(text + shared)).unwrap();
        // A mixture and a family choose the task before the factor.
        let (task, other) = (plain.sample(&mut rng(0)), scaled.sample(&mut rng(0)));
        let start = |task: &dyn Task| task.init(&mut rng(1)).unwrap();
        let (params, scaled) = (start(&*task), start(&*other));
        let nonzero = |tensor: &&Tensor| flat(tensor).iter().any(|&x| x != 0.0);
        let ratio =
            |a: &Tensor, b: &Tensor| flat(a).iter().sum::<f64>() / flat(b).iter().sum::<f64>();
        let pairs = || params.tensors().iter().zip(scaled.tensors());
        let (original, first) = pairs().find(|(p, _)| nonzero(p)).unwrap();
        let factor = ratio(original, first);
        assert!((0.1..=10.0).contains(&factor) && factor != 1.0, "{factor}");
        let batch = task.batch(Split::Train, &mut rng(2)).unwrap();
        let (expected, expected_grads) = task.loss_and_grad(&params, &batch).unwrap();
        let (loss, grads) = other.loss_and_grad(&scaled, &batch).unwrap();
        assert!(
            (loss - expected).abs() <= 1e-5 * expected,
            "{loss} {expected}"
        );
        let tensors = grads.tensors().iter().zip(expected_grads.tensors());
        for (grad, expected) in tensors {
            let (Some(grad), Some(expected)) = (grad, expected) else {
                panic!("no gradient");
            };
            let error = relative_error(grad, &(expected * factor).unwrap());
            assert!(error <= 1e-3, "{}: {error:e}", task.name());
        }
    }
}

#[test]
fn one_factor_for_each_tensor_of_a_model() {
    let text = model(
        "transformer",
        "depth = [1]\nheads = [2]\nreparametrize = [0.1, 10.0]",
    );
    let task = load(&text).unwrap().sample(&mut rng(0));
    let params = task.init(&mut rng(1)).unwrap();
    // Gains start at 1.
    let gains = ["block0/norm1/gain", "block0/norm2/gain", "norm/gain"];
    let mut gains = gains.map(|name| flat(params.get(name).unwrap())[0]);
    gains.sort_by(f64::total_cmp);
    assert!(gains[0] < gains[1] && gains[1] < gains[2], "{gains:?}");
}

#[test]
fn mistakes_name_the_key() {
    let conv = |keys: &str| model("conv-net", keys);
    for (text, words) in [
        (
            "kind = \"mlpp\"".to_owned(),
            "`kind` is `mlpp`; it must be one of mlp, layer-norm-mlp",
        ),
        ("kind = 3".to_owned(), "`kind` is 3"),
        (MLP.replace("hidden", "hiden"), "unknown field `hiden`"),
        (
            MLP.replace("source = \"embedded\"", ""),
            "missing field `source`",
        ),
        (
            conv("depth = [1]\nactivation = [\"relu\"]"),
            "unknown field `activation`",
        ),
        (conv("depht = [1]"), "unknown field `depht`"),
        (
            model("lstm", "depth = [1]").replace("length", "size"),
            "unknown field `size`",
        ),
        (
            mixture().replace("weight = 3", "wait = 3"),
            "unknown field `wait`",
        ),
        (mixture().replace("heads", "hats"), "unknown field `hats`"),
        (
            format!("{MLP}reparametrize = {{ all = [1, 2] }}"),
            "`reparametrize` must be [low, high]",
        ),
        (
            format!("{MLP}reparametrize = [1, 2, 3]"),
            "`reparametrize` must be [low, high]",
        ),
        (
            format!("{MLP}reparametrize = 3"),
            "`reparametrize` must be [low, high]",
        ),
    ] {
        let error = parse(&text).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    }
    for (text, words) in [
        (MLP.replace("[8]", "[]"), "`image-size` is empty"),
        (MLP.replace("[16]", "[0]"), "`batch-size` is 0"),
        (conv("depth = []"), "conv-net: `depth` is empty"),
        (conv("depth = [1]").replace("[4]", "[]"), "`width` is empty"),
        (
            conv("depth = [1]").replace("[4]", "[4, 0]"),
            "`width` is [4, 0]",
        ),
        (conv("depth = [0]"), "`depth` is 0"),
        (conv("depth = [1]").replace(IMAGES, "[]"), "`data` is empty"),
        (
            conv("depth = [1]").replace(IMAGES, TEXT),
            "conv-net: this model reads images",
        ),
        (conv("depth = [1]\nheads = [2]"), "`heads` has no effect"),
        (model("lstm", "depth = [2]"), "lstm: `depth` is 2"),
        (model("transformer", "depth = [1]"), "`heads` is missing"),
        (
            model("transformer", "depth = [1]\nheads = [3]"),
            "`width` 4 cannot be divided",
        ),
        (
            conv("depth = [1]\nreparametrize = { shared = [2.0, 1.0] }"),
            "`reparametrize` is [2, 1]",
        ),
        (
            "kind = \"mixture\"\nfamilies = []".to_owned(),
            "`families` is empty",
        ),
        (
            mixture().replace("weight = 1.0", "weight = 0"),
            "`families[1].weight` is 0",
        ),
        (
            mixture().replace("weight = 1.0", "weight = -1"),
            "`families[1].weight` is -1",
        ),
        (
            mixture().replace("weight = 1.0", "weight = nan"),
            "`families[1].weight` is NaN",
        ),
        (
            mixture().replace("weight = 1.0", "weight = inf"),
            "`families[1].weight` is inf",
        ),
        (
            mixture().replace("heads = [2]", "heads = [3]"),
            "families[2].task: transformer: `width` 4 cannot",
        ),
    ] {
        let error = load(&text).err().expect(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Two outer steps of PES on a mixture with 1 and 2 threads, and in two parts: all files of θ are
/// the same, bit for bit.
#[test]
fn meta_training_on_a_mixture() {
    let mut table: toml::Table = Preset::Quick.text().parse().unwrap();
    table.insert(
        "task".to_owned(),
        mixture().parse::<toml::Table>().unwrap().into(),
    );
    let text = toml::to_string(&table).unwrap();
    let overrides = [
        "estimator.tasks=6",
        "estimator.truncation=3",
        "estimator.horizon={ kind = \"constant\", steps = 5 }",
        "outer.steps=2",
        "held-out.every=1",
        "held-out.unrolls=3",
        "held-out.horizon=4",
        "checkpoint.every=1",
    ]
    .map(str::to_owned);
    let config = RunConfig::parse(&text, "mixture", None, &overrides).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [one, two, parts] = ["one", "two", "parts"].map(|name| folder.path().join(name));
    let never = AtomicBool::new(false);
    for (path, threads) in [(&one, 1), (&two, 2)] {
        let mut trainer = start(&config, path, threads);
        assert!(trainer.run(&never, &mut ()).unwrap());
    }
    let theta = |path: &Path, name: &str| fs::read(path.join(name)).unwrap();
    for name in ["theta.safetensors", "best.safetensors"] {
        assert!(theta(&one, name) == theta(&two, name), "{name} differs");
    }
    let stop = AtomicBool::new(false);
    let mut first = start(&config, &parts, 2);
    assert!(!first.run(&stop, &mut StopAtOnce(&stop)).unwrap());
    drop(first);
    let (store, resources) = (&mut DataStore::default(), resources(1));
    let (resumed, mut rest) =
        RunConfig::resume(&parts, None, store, &Device::Cpu, resources).unwrap();
    assert_eq!(resumed, config);
    assert!(rest.outer_step() == 1 && rest.run(&never, &mut ()).unwrap());
    let name = "theta.safetensors";
    assert!(theta(&one, name) == theta(&parts, name), "resumed");
}

struct StopAtOnce<'a>(&'a AtomicBool);

impl Observer for StopAtOnce<'_> {
    fn on_step(&mut self, _: &Progress) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn resources(threads: usize) -> Resources {
    Resources {
        workers: Workers::new(NonZeroUsize::new(threads)),
        ..Resources::default()
    }
}

fn start(config: &RunConfig, path: &Path, threads: usize) -> Trainer {
    let (store, resources) = (&mut DataStore::default(), resources(threads));
    config.start(path, store, &Device::Cpu, resources).unwrap()
}

/// Only the data of its tasks belong to a run, whatever else was loaded before.
#[test]
fn other_loaded_data_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let cifar = folder.path().join("cifar10");
    fs::create_dir(&cifar).unwrap();
    for name in files::CIFAR_FILES {
        fs::write(cifar.join(name), vec![1; 20 * cifar::ROW]).unwrap();
    }
    let mut store = DataStore::new(Some(folder.path()));
    let loaded = store.checksums([DatasetName::Cifar10, DatasetName::Mnist]);
    assert!(!loaded.unwrap().is_empty());
    let config = RunConfig::parse(
        Preset::Quick.text(),
        "quick",
        None,
        &["outer.steps=2".to_owned(), "held-out.unrolls=1".to_owned()],
    );
    let (config, path) = (config.unwrap(), folder.path().join("run"));
    let run = config.start(&path, &mut store, &Device::Cpu, resources(1));
    drop(run.unwrap());
    let store = &mut DataStore::default();
    RunConfig::resume(&path, None, store, &Device::Cpu, resources(1)).unwrap();
}
