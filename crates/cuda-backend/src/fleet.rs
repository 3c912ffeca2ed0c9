//! Many networks of one shape that are trained together on a device.

use candle_core::Tensor;
use lopt_core::{Error, Optimizer, Params, Result, State, StepContext};
use lopt_cuda::{
    FleetPlaces, FleetPlan, Number, Plan,
    bytes::{Bytes, bytes_of},
    layout::{self, Address, FleetArguments, control},
};
use lopt_kernels::mlp::Mlp;

use crate::{Device, Kernels, on_device::on_host, slots::SlotLayout};

/// Networks of one shape, each with its own φ, θ and state of the optimizer, that take inner steps
/// together.
///
/// [`Fleet::begin`] is given the minibatches of some steps, [`Fleet::step`] takes one of them, and
/// [`Fleet::results`] waits for all of them. A network whose gradient is not finite stays as it is
/// in that step. Networks may be started or restored between any two steps. The learning rate is the
/// one that the optimizer had when the fleet was created.
///
/// # Panics
/// Methods panic if there is no such network.
pub trait Fleet: Send {
    /// The name of the kernels, such as "cuda".
    fn path(&self) -> &'static str;

    /// The number of networks.
    fn networks(&self) -> usize;

    /// Replaces θ of one network, from the next step on.
    ///
    /// # Errors
    /// Returns an error if there are more or fewer values than meta-parameters.
    fn set_theta(&mut self, network: usize, values: &[f32]) -> Result<()>;

    /// Starts one network anew from `params`.
    ///
    /// # Errors
    /// Returns an error if the parameters have other shapes, or the device fails.
    fn start(&mut self, network: usize, params: &Params) -> Result<()>;

    /// Continues one network from the given parameters and state.
    ///
    /// # Errors
    /// Returns an error if they have other shapes, or the device fails.
    fn restore(&mut self, network: usize, params: &Params, state: &State) -> Result<()>;

    /// A copy of φ of one network, on the CPU.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn params(&self, network: usize) -> Result<Params>;

    /// A copy of the optimizer's state of one network, on the CPU.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn state(&self, network: usize) -> Result<State>;

    /// Takes over the minibatches of the next steps: indices of images, \[steps, minibatches,
    /// batch\]. Consecutive networks share a minibatch. Minibatches and results of earlier steps are
    /// forgotten.
    ///
    /// # Errors
    /// Returns an error if the number of indices is wrong, one of them is out of range, or the device
    /// fails.
    fn begin(&mut self, rows: &[u32]) -> Result<()>;

    /// Takes the next step of all networks, without waiting for it.
    ///
    /// # Errors
    /// Returns an error if there is no minibatch left, or the device fails.
    fn step(&mut self) -> Result<()>;

    /// Waits for the steps since [`Fleet::begin`], and returns their results, \[steps, networks\].
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn results(&mut self) -> Result<Vec<Step>>;
}

/// The result of an inner step of one network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The loss on the minibatch before the update.
    pub loss: f32,
    /// Whether the step was skipped because the gradient was not finite; φ and the state are unchanged
    /// then.
    pub refused: bool,
}

/// Pixels of images, \[images, features\].
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// 0 to 255, for 0 to 1.
    Bytes(&'a [u8]),
    /// In \[0, 1\].
    Floats(&'a [f32]),
}

/// MLPs on labeled images.
#[derive(Clone, Debug)]
pub struct Classifier<'a> {
    /// The networks, whose parameters lie one after another in the order of `template`.
    pub mlp: Mlp,
    /// The number of images of a minibatch.
    pub batch: usize,
    /// Names and shapes of the parameters.
    pub template: Params,
    /// The images.
    pub pixels: Pixels<'a>,
    /// A factor on pixels in \[0, 1\].
    pub scale: f32,
    /// The classes of the images.
    pub labels: &'a [u8],
}

/// The bytes of a loss and a flag.
const RESULT: usize = f32::SIZE + u32::SIZE;

/// An array for each network, one after another.
struct PerNetwork<M> {
    memory: M,
    /// Of one network.
    bytes: usize,
}

impl<M> PerNetwork<M> {
    fn new<D: Device<Memory = M>>(device: &D, networks: usize, bytes: usize) -> Result<Self> {
        let bytes = bytes.next_multiple_of(256);
        let memory = device.zeros(networks * bytes)?;
        Ok(Self { memory, bytes })
    }

    fn address<D: Device<Memory = M>>(&self, device: &D, network: usize) -> Address {
        device.address(&self.memory) + (network * self.bytes) as Address
    }

    fn write<D: Device<Memory = M>>(
        &mut self,
        device: &D,
        network: usize,
        at: usize,
        content: &[u8],
    ) -> Result<()> {
        device.write(&mut self.memory, network * self.bytes + at, content)
    }

    fn read<D: Device<Memory = M>>(
        &self,
        device: &D,
        network: usize,
        at: usize,
        bytes: usize,
    ) -> Result<Vec<u8>> {
        let mut content = vec![0; bytes];
        device.read(&self.memory, network * self.bytes + at, &mut content)?;
        Ok(content)
    }
}

/// The [`Fleet`] of MLPs on images, with the kernels of [`lopt_cuda`].
///
/// The images stay in the device's memory: as bytes where they are in their original size.
pub struct MlpFleet<D: Device> {
    device: D,
    plan: FleetPlan,
    kernels: Kernels,
    template: Params,
    images: usize,
    layout: SlotLayout,
    /// The slots of a network at its start.
    initial: Vec<u8>,
    launched: Vec<D::Kernel>,
    scratch: PerNetwork<D::Memory>,
    slots: PerNetwork<D::Memory>,
    params: PerNetwork<D::Memory>,
    thetas: PerNetwork<D::Memory>,
    /// The decoded θ of all networks, and whether the device does not have them yet.
    new_thetas: Vec<u8>,
    are_new: bool,
    /// Memory that only the kernels use: constants, arguments, gradients, values, images.
    _fixed: Vec<D::Memory>,
    fleet: layout::Fleet,
    /// The minibatches and results of as many steps as fit.
    steps: Option<Steps<D::Memory>>,
    /// Steps that were begun, and of these the ones taken.
    begun: usize,
    taken: usize,
    parity: u32,
}

struct Steps<M> {
    rows: M,
    results: M,
    capacity: usize,
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<{ f32::SIZE }>();
    values.iter().copied().map(f32::from_ne_bytes).collect()
}

impl<D: Device> MlpFleet<D> {
    /// Creates `networks` networks with φ = 0; every group of `sharing` consecutive networks has the
    /// same minibatches. Returns `None` if there is no plan for them.
    ///
    /// # Errors
    /// Returns an error if the optimizer has a setting out of range, the images do not fit the networks,
    /// or the device fails.
    ///
    /// # Panics
    /// Panics if `sharing` does not divide `networks`, or there are none.
    pub fn new(
        device: D,
        optimizer: &dyn Optimizer,
        kernels: &Kernels,
        classifier: &Classifier,
        networks: usize,
        sharing: usize,
    ) -> Result<Option<Self>> {
        let Classifier {
            mlp,
            batch,
            template,
            pixels,
            scale,
            labels,
        } = classifier;
        check(classifier)?;
        StepContext::new(0, optimizer.learning_rate()).check()?;
        let state = optimizer.init(&on_host(template)?)?;
        let shapes = template.shapes();
        let specs = shapes.iter().map(|dims| kernels.spec(dims, Number::F32));
        let specs: Vec<_> = specs.collect::<Result<_>>()?;
        let plan = Plan::new(&kernels.optimizer(), &specs).ok();
        let plan = plan.and_then(|plan| FleetPlan::new(plan, mlp, *batch, networks, sharing));
        let Some(plan) = plan else {
            return Ok(None);
        };
        let layout = SlotLayout::new(&state)?;
        let initial = layout.content(&layout.values(&state)?);
        let theta = kernels.decoded(&kernels.theta)?;

        let per_network = |bytes| PerNetwork::new(&device, networks, bytes);
        let scratch = per_network(plan.optimizer.scratch_bytes())?;
        let slots = per_network(layout.bytes())?;
        let params = per_network(plan.size() * f32::SIZE)?;
        let grads = per_network(plan.size() * f32::SIZE)?;
        let values = per_network(plan.value_size() * f32::SIZE)?;
        let thetas = per_network(theta.len() * f32::SIZE)?;
        let constants = per_network(plan.optimizer.constant_bytes())?;
        // The kernels compute where a network's arrays begin.
        for (memory, floats) in [
            (&params, plan.size()),
            (&grads, plan.size()),
            (&values, plan.value_size()),
        ] {
            assert_eq!(memory.bytes, floats * f32::SIZE);
        }

        let mut content = vec![0; networks * constants.bytes];
        let mut arguments = [vec![], vec![]];
        let learning_rate = optimizer.learning_rate() as f32;
        for network in 0..networks {
            let of = |memory: &PerNetwork<D::Memory>| memory.address(&device, network);
            let (of_network, tensors) = layout.places(of(&slots), kernels, &shapes)?;
            let ours = plan.optimizer.constants(of(&scratch), &theta, &tensors);
            let at = network * constants.bytes;
            content[at..at + ours.len()].copy_from_slice(&ours);
            let places = layout::Plan {
                theta: of(&thetas),
                ..plan
                    .optimizer
                    .places(of(&constants), of(&scratch), of_network)
            };
            for (parity, all) in arguments.iter_mut().enumerate() {
                let (p, g) = (of(&params), of(&grads));
                all.push(plan.of_network(&places, learning_rate, parity as u32, p, g));
            }
        }
        let mut constants = constants.memory;
        device.write(&mut constants, 0, &content)?;
        let arguments = uploaded(&device, &bytes_of(&arguments.concat()))?;
        let labels_on_device = uploaded(&device, labels)?;
        let (pixels, are_bytes) = match pixels {
            Pixels::Bytes(bytes) => (uploaded(&device, bytes)?, true),
            Pixels::Floats(floats) => (uploaded(&device, &bytes_of(floats))?, false),
        };
        let at = device.address(&pixels);
        let places = FleetPlaces {
            arguments: device.address(&arguments),
            params: params.address(&device, 0),
            grads: grads.address(&device, 0),
            values: values.address(&device, 0),
            bytes: if are_bytes { at } else { 0 },
            floats: if are_bytes { 0 } else { at },
            labels: device.address(&labels_on_device),
            ..FleetPlaces::default()
        };
        let kernel = |launch: &lopt_cuda::FleetLaunch| device.kernel(&launch.kernel);
        let launched = plan.launches().iter().map(kernel).collect::<Result<_>>()?;
        let mut fleet = Self {
            fleet: plan.fleet(&places, *scale),
            new_thetas: vec![0; networks * thetas.bytes],
            are_new: true,
            kernels: kernels.clone(),
            template: template.clone(),
            images: labels.len(),
            _fixed: vec![
                constants,
                arguments,
                grads.memory,
                values.memory,
                labels_on_device,
                pixels,
            ],
            layout,
            initial,
            launched,
            scratch,
            slots,
            params,
            thetas,
            steps: None,
            begun: 0,
            taken: 0,
            parity: 0,
            device,
            plan,
        };
        for network in 0..networks {
            fleet.put_theta(network, &theta);
            fleet.set_state(network, 0, None)?;
        }
        Ok(Some(fleet))
    }

    fn put_theta(&mut self, network: usize, decoded: &[f32]) {
        let at = network * self.thetas.bytes;
        let bytes = bytes_of(decoded);
        self.new_thetas[at..at + bytes.len()].copy_from_slice(&bytes);
        self.are_new = true;
    }

    /// Uploads slots, by default the initial ones, and the number of steps.
    fn set_state(&mut self, network: usize, step: u64, slots: Option<&[u8]>) -> Result<()> {
        let (device, slots) = (&self.device, slots.unwrap_or(&self.initial));
        self.slots.write(device, network, 0, slots)?;
        let step = step.to_ne_bytes();
        self.scratch.write(device, network, control::STEP, &step)
    }

    fn set_params(&mut self, network: usize, params: &Params) -> Result<()> {
        if params.shapes() != self.template.shapes() {
            let problem = "the parameters belong to another network".to_owned();
            return Err(Error::Mismatch(problem));
        }
        let mut content = vec![0; self.plan.size() * f32::SIZE];
        for (tensor, start) in params.tensors().iter().zip(self.plan.starts()) {
            let bytes = bytes_of(&tensor.flatten_all()?.to_vec1::<f32>()?);
            let at = start * f32::SIZE;
            content[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.params.write(&self.device, network, 0, &content)
    }
}

fn uploaded<D: Device>(device: &D, content: &[u8]) -> Result<D::Memory> {
    let mut memory = device.zeros(content.len())?;
    device.write(&mut memory, 0, content)?;
    Ok(memory)
}

/// Checks what the kernels rely on: they do not check indices.
fn check(classifier: &Classifier) -> Result<()> {
    let Classifier {
        mlp,
        batch,
        template,
        pixels,
        labels,
        ..
    } = classifier;
    let sizes = template.tensors().iter().map(Tensor::elem_count);
    let consecutive = sizes.scan(0, |end, size| {
        let start = *end;
        *end += size;
        Some((start, size))
    });
    let (first, last) = (&mlp.layers()[0], &mlp.layers()[mlp.layers().len() - 1]);
    let count = match pixels {
        Pixels::Bytes(bytes) => bytes.len(),
        Pixels::Floats(floats) => floats.len(),
    };
    let fits = consecutive.eq(mlp.parameters())
        && *batch > 0
        && count == labels.len() * first.inputs
        && labels
            .iter()
            .all(|label| usize::from(*label) < last.outputs);
    if !fits {
        let problem = "parameters, images or labels do not fit the layers".to_owned();
        return Err(Error::Mismatch(problem));
    }
    Ok(())
}

impl<D: Device> Fleet for MlpFleet<D> {
    fn path(&self) -> &'static str {
        "cuda"
    }

    fn networks(&self) -> usize {
        self.plan.networks()
    }

    fn set_theta(&mut self, network: usize, values: &[f32]) -> Result<()> {
        let decoded = self.kernels.decoded(values)?;
        self.put_theta(network, &decoded);
        Ok(())
    }

    fn start(&mut self, network: usize, params: &Params) -> Result<()> {
        self.set_params(network, params)?;
        self.set_state(network, 0, None)
    }

    fn restore(&mut self, network: usize, params: &Params, state: &State) -> Result<()> {
        let content = self.layout.content(&self.layout.values(state)?);
        self.set_params(network, params)?;
        self.set_state(network, state.step, Some(&content))
    }

    fn params(&self, network: usize) -> Result<Params> {
        let bytes = self.plan.size() * f32::SIZE;
        let all = floats(&self.params.read(&self.device, network, 0, bytes)?);
        let tensors = self.template.tensors().iter().zip(self.plan.starts());
        let tensors = tensors.map(|(template, &start)| {
            let values = &all[start..start + template.elem_count()];
            let cpu = &candle_core::Device::Cpu;
            Ok(Tensor::from_slice(values, template.shape(), cpu)?)
        });
        self.template.with_tensors(tensors.collect::<Result<_>>()?)
    }

    fn state(&self, network: usize) -> Result<State> {
        let step = self.scratch.read(&self.device, network, control::STEP, 8)?;
        let step = step.as_chunks::<8>().0[0];
        let bytes = self.layout.bytes();
        let all = self.slots.read(&self.device, network, 0, bytes)?;
        self.layout.state(u64::from_ne_bytes(step), |slot, at| {
            let values = floats(&all[at..at + slot.elem_count() * f32::SIZE]);
            let cpu = &candle_core::Device::Cpu;
            Ok(Tensor::from_vec(values, slot.shape(), cpu)?)
        })
    }

    fn begin(&mut self, rows: &[u32]) -> Result<()> {
        let per_step = self.plan.networks() / self.plan.sharing() * self.plan.batch();
        let (steps, rest) = (rows.len() / per_step, rows.len() % per_step);
        if rest > 0 || rows.iter().any(|row| *row as usize >= self.images) {
            return Err(Error::Mismatch(format!(
                "the minibatches of a step are {per_step} indices below {}",
                self.images
            )));
        }
        let device = &self.device;
        if self
            .steps
            .as_ref()
            .is_none_or(|memory| memory.capacity < steps)
        {
            let results = device.zeros(steps * self.plan.networks() * RESULT)?;
            let rows = device.zeros(steps * per_step * u32::SIZE)?;
            self.fleet.rows = device.address(&rows);
            self.fleet.results = device.address(&results);
            let capacity = steps;
            self.steps = Some(Steps {
                rows,
                results,
                capacity,
            });
        }
        if let Some(memory) = &mut self.steps {
            device.write(&mut memory.rows, 0, &bytes_of(rows))?;
        }
        (self.begun, self.taken) = (steps, 0);
        Ok(())
    }

    fn step(&mut self) -> Result<()> {
        if self.taken == self.begun {
            return Err(Error::Mismatch("there is no minibatch left".to_owned()));
        }
        if std::mem::take(&mut self.are_new) {
            let (device, thetas) = (&self.device, &mut self.thetas.memory);
            device.write(thetas, 0, &self.new_thetas)?;
        }
        let networks = self.plan.networks() as u32;
        for (launch, kernel) in self.plan.launches().iter().zip(&self.launched) {
            let argument = FleetArguments {
                fleet: self.fleet,
                step: self.taken as u32,
                layer: launch.layer,
                parity: self.parity,
                unused: 0,
            };
            let grid = [launch.blocks, networks];
            self.device
                .launch(kernel, grid, launch.threads, &argument)?;
        }
        self.taken += 1;
        self.parity = 1 - self.parity;
        Ok(())
    }

    fn results(&mut self) -> Result<Vec<Step>> {
        let mut bytes = vec![0; self.taken * self.plan.networks() * RESULT];
        if let Some(memory) = &self.steps {
            self.device.read(&memory.results, 0, &mut bytes)?;
        }
        let results = bytes.as_chunks::<RESULT>().0.iter();
        Ok(results
            .map(|[a, b, c, d, skipped @ ..]| Step {
                loss: f32::from_ne_bytes([*a, *b, *c, *d]),
                refused: *skipped != [0; 4],
            })
            .collect())
    }
}
