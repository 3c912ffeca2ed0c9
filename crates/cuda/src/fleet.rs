//! The plan of training many networks of one shape together: where their parameters are, and the
//! launches of an inner step.

use lopt_kernels::mlp::{self, Mlp};

use crate::{
    layout::{self, Address, Arguments, CAPACITY, LAYERS, Layer, Pointers, SIDE},
    plan::{Launch, Plan},
};

/// Floats between the boundaries of arrays.
const ALIGNMENT: usize = 64;
/// The largest number of floats of a network.
const LARGEST: usize = i32::MAX as usize;
/// The largest number of networks, because a grid has no more rows.
const NETWORKS: usize = 65_535;

/// The addresses of a fleet's arrays; see [`layout::Fleet`].
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct FleetPlaces {
    pub arguments: Address,
    pub params: Address,
    pub grads: Address,
    pub values: Address,
    pub bytes: Address,
    pub floats: Address,
    pub labels: Address,
    pub rows: Address,
    pub results: Address,
}

/// One launch for all networks of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetLaunch {
    /// The kernel's name.
    pub kernel: String,
    /// The number of blocks of each network.
    pub blocks: u32,
    /// The threads of a block.
    pub threads: u32,
    /// The layer that it is for.
    pub layer: u32,
}

/// The plan of inner steps of many networks of one shape, each with an optimizer.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// The steps of the optimizer of one network.
    pub optimizer: Plan,
    networks: usize,
    sharing: usize,
    /// Where each parameter begins in those of its network, in floats.
    starts: Vec<usize>,
    size: usize,
    value_size: usize,
    mlp: Mlp,
    batch: usize,
    layers: [Layer; LAYERS],
    launches: Vec<FleetLaunch>,
}

fn aligned(floats: usize) -> usize {
    floats.next_multiple_of(ALIGNMENT)
}

/// Places arrays of these lengths one after another; returns their starts and the end.
fn placed(lengths: impl IntoIterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut end = 0;
    let place = |length: usize| {
        let start = end;
        end += aligned(length);
        start
    };
    let starts = lengths.into_iter().map(place).collect();
    (starts, end)
}

impl FleetPlan {
    /// Plans the training of `networks` networks on minibatches of `batch` images, of which each
    /// `sharing` consecutive ones have the same. The parameters of `mlp` lie one after another in its
    /// flat vector. `optimizer` is the plan for the parameters of one of them. Returns `None` if
    /// there are more than 65,535 networks, they have too many layers, or one of them is too large.
    ///
    /// # Panics
    /// Panics if `sharing` does not divide `networks`, or there are none.
    pub fn new(
        optimizer: Plan,
        mlp: &Mlp,
        batch: usize,
        networks: usize,
        sharing: usize,
    ) -> Option<Self> {
        assert!(networks > 0 && sharing > 0 && networks.is_multiple_of(sharing));
        const { assert!(2 * LAYERS <= CAPACITY) };
        if mlp.layers().len() > LAYERS || networks > NETWORKS {
            return None;
        }
        let parameters = mlp.parameters();
        let (starts, size) = placed(parameters.iter().map(|(_, size)| *size));
        // Where a parameter begins here that begins at `offset` in the flat vector.
        let start =
            |offset| starts[parameters.partition_point(|(other, _)| *other < offset)] as u32;
        let of_layer = |layer: &mlp::Layer| [batch * layer.outputs; 3];
        let (values, value_size) = placed(mlp.layers().iter().flat_map(of_layer));
        if size.max(value_size) > LARGEST {
            return None;
        }
        let mut layers = [Layer::default(); LAYERS];
        let values = values.as_chunks::<3>().0;
        for ((to, layer), [z, a, dz]) in layers.iter_mut().zip(mlp.layers()).zip(values) {
            *to = Layer {
                inputs: layer.inputs as u32,
                outputs: layer.outputs as u32,
                weight: start(layer.weight),
                bias: start(layer.bias),
                z: *z as u32,
                a: *a as u32,
                dz: *dz as u32,
                unused: 0,
            };
        }
        Some(Self {
            launches: launches(&optimizer, mlp, batch),
            optimizer,
            networks,
            sharing,
            starts,
            size,
            value_size,
            mlp: mlp.clone(),
            batch,
            layers,
        })
    }

    /// The number of networks.
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// Consecutive networks that have the same minibatches.
    pub fn sharing(&self) -> usize {
        self.sharing
    }

    /// The images of a minibatch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Floats of the parameters of one network, with the gaps between them.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Floats of what the layers of one network compute.
    pub fn value_size(&self) -> usize {
        self.value_size
    }

    /// Where each parameter begins in those of its network, in floats.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The launches of an inner step, in their order. The grid of each is \[blocks, networks\].
    pub fn launches(&self) -> &[FleetLaunch] {
        &self.launches
    }

    /// The argument of the optimizer's kernels for one network, whose parameters and gradients begin
    /// at these addresses.
    pub fn of_network(
        &self,
        places: &layout::Plan,
        learning_rate: f32,
        parity: u32,
        params: Address,
        grads: Address,
    ) -> Arguments {
        let at = |base: Address, start: &usize| base + (start * size_of::<f32>()) as Address;
        let pointers = self.starts.iter().map(|start| Pointers {
            p: at(params, start),
            g: at(grads, start),
        });
        let pointers: Vec<_> = pointers.collect();
        // It passes over all tensors, as later launches do.
        let first = &self.optimizer.launches()[0];
        self.optimizer
            .arguments(first, places, learning_rate, parity, &pointers)
    }

    /// The networks as the kernels know them.
    pub fn fleet(&self, places: &FleetPlaces, scale: f32) -> layout::Fleet {
        layout::Fleet {
            arguments: places.arguments,
            params: places.params,
            grads: places.grads,
            values: places.values,
            bytes: places.bytes,
            floats: places.floats,
            labels: places.labels,
            rows: places.rows,
            results: places.results,
            size: self.size as u64,
            value_size: self.value_size as u64,
            scale,
            networks: self.networks as u32,
            sharing: self.sharing as u32,
            batch: self.batch as u32,
            activation: self.mlp.activation() as u32,
            layer_count: self.mlp.layers().len() as u32,
            layers: self.layers,
        }
    }
}

fn launches(optimizer: &Plan, mlp: &Mlp, batch: usize) -> Vec<FleetLaunch> {
    let tiles = |length: usize| length.div_ceil(SIDE);
    let launch = |kernel: &str, blocks: usize, threads: usize, layer: usize| FleetLaunch {
        kernel: format!("lopt_fleet_{kernel}"),
        blocks: blocks as u32,
        threads: threads as u32,
        layer: layer as u32,
    };
    let mut all = vec![];
    for (index, layer) in mlp.layers().iter().enumerate() {
        let blocks = tiles(batch) * tiles(layer.outputs);
        all.push(launch("forward", blocks, layout::PRODUCT_THREADS, index));
    }
    all.push(launch("loss", 1, layout::THREADS, 0));
    for (index, layer) in mlp.layers().iter().enumerate().rev() {
        let of_weight = tiles(layer.inputs) * tiles(layer.outputs);
        let of_bias = tiles(layer.outputs);
        let below = match index {
            0 => 0,
            _ => tiles(batch) * tiles(layer.inputs),
        };
        let blocks = of_weight + of_bias + below;
        all.push(launch("backward", blocks, layout::PRODUCT_THREADS, index));
    }
    let of_optimizer = |Launch {
                            kernel,
                            blocks,
                            threads,
                            ..
                        }: &Launch| {
        let name = kernel.strip_prefix("lopt_").unwrap_or(kernel);
        launch(name, *blocks as usize, *threads as usize, 0)
    };
    all.extend(optimizer.launches().iter().map(of_optimizer));
    all
}
