//! What an optimizer is told about its steps, and slots of the whole network, on every path.

use std::sync::{Arc, Mutex};

use candle_core::{DType, Tensor, Var};
use candle_nn::Optimizer as _;
use lopt_core::{
    Backend, CandleOps, DropIn, DropInConfig, Fused, FusedUpdate, GradSource, Grads, NonFinite,
    Optimizer, Params, Purpose, Result, Rng, Slot, State, StepContext, Streams,
};
use lopt_star::Star;
use lopt_tasks::{Batch, DataStore, Feed, MlpTask, Network, Split, Task, suite::Suite};

type Seen = Arc<Mutex<Vec<StepContext>>>;

/// Where a [`Counting`] takes its steps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Kernel,
    Ops,
    /// A backend of its own.
    Device,
}

/// p ← p − η·(n + 1)·g, where a slot of the network counts the steps n.
struct Counting {
    place: Place,
    seen: Seen,
}

impl Counting {
    fn new(place: Place) -> Self {
        let seen = Seen::default();
        Self { place, seen }
    }
}

impl Optimizer for Counting {
    fn kind(&self) -> &'static str {
        "counting"
    }

    fn init(&self, params: &Params) -> Result<State> {
        let mut state = State::of_parameters(vec![vec![]; params.len()]);
        state.network.push(Slot {
            name: "count",
            value: Tensor::zeros(1, DType::F32, &candle_core::Device::Cpu)?,
        });
        Ok(state)
    }

    fn update(
        &self,
        context: &StepContext,
        state: &mut State,
        params: &mut Params,
        grads: &Grads,
    ) -> Result<()> {
        grads.check(params)?;
        self.seen.lock().unwrap().push(*context);
        let count = (&state.network[0].value + 1.0)?;
        let rate = context.learning_rate * f64::from(count.to_vec1::<f32>()?[0]);
        let pairs = params.tensors().iter().zip(grads.tensors());
        let moved = pairs.map(|(p, g)| match g {
            Some(g) => Ok((p - (g * rate)?)?),
            None => Ok(p.clone()),
        });
        *params = params.with_tensors(moved.collect::<Result<_>>()?)?;
        state.network[0].value = count;
        state.step += 1;
        Ok(())
    }

    fn fused(&self, _: &[Vec<usize>]) -> Option<Box<dyn FusedUpdate>> {
        let (seen, rate) = (self.seen.clone(), 0.0);
        (self.place == Place::Kernel).then(|| Box::new(FusedCounting { seen, rate }) as _)
    }

    fn backend(&self, params: &Params) -> Result<Option<Box<dyn Backend>>> {
        let on_device = || Ok(Box::new(Device(CandleOps::new(self, params)?)) as _);
        (self.place == Place::Device).then(on_device).transpose()
    }

    fn learning_rate(&self) -> f64 {
        0.25
    }

    fn set_learning_rate(&mut self, _: f64) {}
}

/// A pretend device.
struct Device(CandleOps);

impl Backend for Device {
    fn path(&self) -> &'static str {
        "pretend"
    }

    fn steps(&self) -> u64 {
        self.0.steps()
    }

    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        self.0.set_state(state)
    }

    fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        self.0.set_theta(values)
    }

    fn step(
        &mut self,
        optimizer: &dyn Optimizer,
        context: &StepContext,
        params: &Params,
        grads: &dyn GradSource,
    ) -> Result<Option<Params>> {
        self.0.step(optimizer, context, params, grads)
    }
}

struct FusedCounting {
    seen: Seen,
    rate: f32,
}

impl FusedUpdate for FusedCounting {
    fn kernel(&self) -> &'static str {
        "portable"
    }

    fn begin_step(&mut self, context: &StepContext, network: &mut [Vec<f32>]) {
        self.seen.lock().unwrap().push(*context);
        network[0][0] += 1.0;
        self.rate = context.learning_rate as f32 * network[0][0];
    }

    fn update(&self, _: usize, p: &mut [f32], g: &[f32], _: &mut [Vec<f32>]) {
        p.iter_mut().zip(g).for_each(|(p, g)| *p -= self.rate * g);
    }
}

/// ℓ = w, whose gradient is 1.
struct Slope;

impl Task for Slope {
    fn init(&self, _: &mut Rng) -> Result<Params> {
        Params::new([(
            "w".to_owned(),
            Tensor::new(&[8f32], &candle_core::Device::Cpu)?,
        )])
    }

    fn batch(&self, _: Split, _: &mut Rng) -> Result<Batch> {
        Ok(vec![])
    }

    fn loss(&self, params: &Params, _: &Batch) -> Result<Tensor> {
        Ok(params.get("w")?.sum_all()?)
    }
}

fn w(params: &Params) -> f32 {
    params.tensors()[0].to_vec1::<f32>().unwrap()[0]
}

#[test]
fn networks_tell_loss_and_horizon_and_keep_slots_of_the_network() {
    for (place, path) in [
        (Place::Kernel, "portable"),
        (Place::Ops, "candle ops"),
        (Place::Device, "pretend"),
    ] {
        let optimizer = Arc::new(Counting::new(place));
        let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
        let params = Slope.init(&mut rng).unwrap();
        let network = Network::start(Arc::new(Slope), params, optimizer.clone()).unwrap();
        let mut network = network.with_horizon(3);
        assert_eq!(network.path(), format!("candle autodiff, {path} update"));
        let mut feed = Feed::default();
        for _ in 0..3 {
            network.draw(Split::Train, &mut rng, &mut feed).unwrap();
            network.step(&mut feed).unwrap();
        }
        // 8 − 0.25·(1 + 2 + 3)
        assert_eq!(w(&network.params().unwrap()), 6.5);
        let state = network.state().unwrap();
        assert_eq!(state.network[0].value.to_vec1::<f32>().unwrap(), [3.0]);
        let told = optimizer.seen.lock().unwrap().clone();
        let expected = [8.0, 7.75, 7.25].iter().zip(0..).map(|(&loss, step)| {
            let context = StepContext::new(step, 0.25);
            context.with_loss(loss).with_horizon(3)
        });
        assert_eq!(told, expected.collect::<Vec<_>>());
        assert!(network.set_theta(&[0.0]).is_err(), "it has no θ");
    }
}

#[test]
fn slots_of_the_network_are_saved_with_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.safetensors");
    for place in [Place::Kernel, Place::Ops, Place::Device] {
        let drop_in = || {
            let var = Var::from_tensor(&Tensor::new(&[8f32], &candle_core::Device::Cpu).unwrap())
                .unwrap();
            let config = DropInConfig {
                non_finite: NonFinite::Skip,
                ..DropInConfig::new(Counting::new(place))
            };
            let named = [("w".to_owned(), var.clone())];
            (DropIn::with_names(named, config).unwrap(), var)
        };
        let step = |drop_in: &mut DropIn<Counting>, var: &Var, factor: f64| {
            let loss = (var.as_tensor() * factor).unwrap().sum_all().unwrap();
            drop_in.try_step(&loss.backward().unwrap()).unwrap();
        };
        let (mut first, var) = drop_in();
        step(&mut first, &var, 1.0);
        step(&mut first, &var, f64::NAN);
        assert_eq!(
            first.skipped_steps().unwrap(),
            1,
            "a skipped step changes nothing"
        );
        step(&mut first, &var, 1.0);
        assert_eq!(var.to_vec1::<f32>().unwrap(), [7.25]);
        first.save_state(&path).unwrap();
        let (mut second, var) = drop_in();
        second.load_state(&path).unwrap();
        step(&mut second, &var, 1.0);
        assert_eq!(var.to_vec1::<f32>().unwrap(), [7.25]);
    }
}

/// A state with other slots of the network is refused by both backends, and nothing changes.
#[test]
fn states_with_other_slots_of_the_network_are_refused() {
    let optimizer = Counting::new(Place::Kernel);
    let named = [(
        "w".to_owned(),
        Tensor::new(&[8f32], &candle_core::Device::Cpu).unwrap(),
    )];
    let params = Params::new(named).unwrap();
    let fused = Fused::new(&optimizer, &params).unwrap().unwrap();
    let ops = CandleOps::new(&optimizer, &params).unwrap();
    let backends: [Box<dyn Backend>; 2] = [Box::new(fused), Box::new(ops)];
    for mut backend in backends {
        let mut other = optimizer.init(&params).unwrap();
        other.network.clear();
        assert!(backend.set_state(other).is_err(), "{}", backend.path());
        assert_eq!(backend.state().unwrap().network.len(), 1);
    }
}

/// As many gradients as parameters, and as many values of θ as meta-parameters.
#[test]
fn wrong_counts_are_refused_by_both_backends() {
    let star = Star::untrained();
    let tensor = || Tensor::zeros((2, 3), DType::F32, &candle_core::Device::Cpu).unwrap();
    let named = |names: &[&str]| {
        let named = names.iter().map(|name| ((*name).to_owned(), tensor()));
        Params::new(named.collect::<Vec<_>>()).unwrap()
    };
    let params = named(&["a", "b"]);
    let fused = Fused::new(&star, &params).unwrap().unwrap();
    let ops = CandleOps::new(&star, &params).unwrap();
    let backends: [Box<dyn Backend>; 2] = [Box::new(fused), Box::new(ops)];
    for mut backend in backends {
        let context = StepContext::new(0, 1.0);
        for count in [1, 3] {
            let grads = Grads::new(vec![Some(tensor()); count]);
            let error = backend.step(&star, &context, &params, &grads).unwrap_err();
            assert!(error.to_string().contains("gradients"), "{error}");
        }
        let others = named(&["a", "b", "c"]);
        let grads = Grads::new(vec![Some(tensor()); 3]);
        assert!(backend.step(&star, &context, &others, &grads).is_err());
        assert_eq!(backend.steps(), 0);
        assert!(backend.set_theta(&[0.0; 201]).is_err());
        backend.set_theta(&[0.0; 202]).unwrap();
    }
}

/// The drop-in tells the loss where it knows it.
#[test]
fn backward_step_tells_the_loss() {
    for place in [Place::Kernel, Place::Ops, Place::Device] {
        let var =
            Var::from_tensor(&Tensor::new(&[8f32], &candle_core::Device::Cpu).unwrap()).unwrap();
        let optimizer = Counting::new(place);
        let seen = optimizer.seen.clone();
        let config = DropInConfig::new(optimizer);
        let mut drop_in = DropIn::with_names([("w".to_owned(), var.clone())], config).unwrap();
        drop_in.backward_step(&var.sum_all().unwrap()).unwrap();
        let told = seen.lock().unwrap()[0];
        assert_eq!((told.loss, told.horizon), (Some(8.0), None));
    }
}

/// An optimizer's own backend comes first, also for a task with a native form.
#[test]
fn native_tasks_use_the_backend_of_the_optimizer() {
    let (config, _) = Suite::Quick.base();
    let cpu = candle_core::Device::Cpu;
    let task = MlpTask::new(config, &mut DataStore::default(), &cpu).unwrap();
    let task: Arc<dyn Task> = Arc::new(task);
    let mut rng = Streams::new(0).stream(Purpose::Evaluation, 0, 0, 0);
    let params = task.init(&mut rng).unwrap();
    for (place, path) in [
        (Place::Kernel, "native loss, portable update"),
        (Place::Device, "candle autodiff, pretend update"),
    ] {
        let optimizer = Arc::new(Counting::new(place));
        let network = Network::start(task.clone(), params.clone(), optimizer).unwrap();
        assert_eq!(network.path(), path);
    }
}

/// A program can choose its optimizer while it runs: a box takes the same path, to the same bits.
#[test]
fn boxed_optimizers_are_optimizers() {
    fn trained<O: Optimizer + Sync>(optimizer: O) -> (String, Vec<f32>) {
        let var = Var::new(&[[1f32, -2.0], [0.5, 3.0]], &candle_core::Device::Cpu).unwrap();
        let config = DropInConfig::new(optimizer);
        let mut drop_in = DropIn::new(vec![var.clone()], config).unwrap();
        for _ in 0..5 {
            let loss = var.sqr().unwrap().sum_all().unwrap();
            candle_nn::Optimizer::backward_step(&mut drop_in, &loss).unwrap();
        }
        fn shared<T: Sync>(_: &T) {}
        shared(&drop_in);
        let values = var.flatten_all().unwrap().to_vec1().unwrap();
        (drop_in.path().to_owned(), values)
    }
    let boxed: Box<dyn Optimizer> = Box::new(Star::pretrained());
    assert_eq!(boxed.as_learned().map(|o| o.kind()), Some("star"));
    assert_eq!(trained(boxed), trained(Star::pretrained()));
}
