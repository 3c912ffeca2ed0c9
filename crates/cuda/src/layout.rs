//! The memory that host and kernels share. `kernels/layout.cuh` has the same structures and
//! describes them.

use crate::bytes::{Bytes, device_structure};

/// Threads of a block, except of the kernel of lines.
pub const THREADS: usize = 256;
/// Threads of a block of the kernel of lines.
pub const LINE_THREADS: usize = 512;
/// The largest number of elements of a tile.
pub const TILE: usize = 4096;
/// Lines of one block that folds them.
pub const FOLD_LINES: usize = 256;
/// Tensors of one launch.
pub const CAPACITY: usize = 224;
/// The largest number of learners of an online scale.
pub const LEARNERS: usize = 7;
/// The largest width of the hidden layers.
pub const WIDEST: usize = 32;
/// The largest number of layers of the networks of a fleet.
pub const LAYERS: usize = 32;
/// Threads of a block of a fleet's products.
pub const PRODUCT_THREADS: usize = 128;
/// Rows and columns of a tile of a product.
pub const SIDE: usize = 32;
/// Outputs of the MLP.
pub const HEADS: usize = 3;
/// Sums of a unit.
pub const SUMS: usize = 22;
/// Sums of a block of lines.
pub const LINE_SUMS: usize = 9;
/// The largest argument of a kernel, in bytes.
pub const LARGEST_ARGUMENT: usize = 4096;

/// An address in the device's memory; 0 is null.
pub type Address = u64;

device_structure! {
    /// The lines of one kind of a tensor of rank ≥ 2: its indices without x, or those without y.
    #[derive(Default)]
    Side, 80 bytes {
        /// Row or column moments, \[3, lines\].
        moments: Address,
        /// Sums of g² over the part of a line in one tile, \[parts, lines\].
        parts: Address,
        /// The factors of g and m in the factored features, \[3, lines\].
        factors: Address,
        /// Contributions to the first layer, \[H, lines\].
        folds: Address,
        /// The number of lines.
        lines: u32,
        /// The number of parts.
        part_count: u32,
        /// Elements of a line.
        per_line: u32,
        /// 1 for rows, whose factors need means over groups \[outer, group_lines, inner\].
        is_row: u32,
        /// Lines of a group.
        group_lines: u32,
        /// The step between two lines of a group.
        group_inner: u32,
        /// The number of groups.
        groups: u32,
        /// Lines of a block.
        block_lines: u32,
        /// Blocks of a group.
        group_blocks: u32,
        /// The first block.
        first_block: u32,
        /// The first counter, one for each group.
        first_counter: u32,
        /// Padding.
        unused: u32,
    }
}

device_structure! {
    /// One tensor, seen as \[outer, x, middle, y, inner\].
    #[derive(Default)]
    Tensor, 280 bytes {
        /// The three momenta, \[3, n\]; Adam's m.
        momentum: Address,
        /// The second moment, \[n\]; Adam's v.
        rms: Address,
        /// For rank < 2, the three second moments, \[3, n\].
        diagonal: Address,
        /// The learners of the online scale, \[4, K\], or null.
        learners: Address,
        /// The sum of updates Δ, or null.
        sum: Address,
        /// The parameters in f32 if they have another type, or null.
        master: Address,
        /// Without x, and without y.
        sides: [Side; 2],
        /// n
        elements: u32,
        /// The type of parameter and gradient.
        number: u32,
        /// 1 for rank < 2.
        is_diagonal: u32,
        /// x
        x: u32,
        /// middle·y·inner
        columns: u32,
        /// middle
        middle: u32,
        /// y
        y: u32,
        /// inner
        inner: u32,
        /// How tiles divide a row; see [`Cut`](crate::tiling::Cut).
        cut: u32,
        /// The part of a row that tiles divide evenly but for its last.
        span: u32,
        /// The tiles of a span.
        span_tiles: u32,
        /// Rows of a tile.
        tile_rows: u32,
        /// Columns of a tile.
        tile_columns: u32,
        /// The number of tiles.
        tiles: u32,
        /// Tiles of a unit, the work of one block.
        unit_tiles: u32,
        /// The first unit.
        first_unit: u32,
        /// The number of units.
        units: u32,
        /// Padding.
        unused: u32,
    }
}

device_structure! {
    /// Some lines of one group of one side, for one block.
    Lines, 16 bytes {
        /// The tensor's index.
        tensor: u32,
        /// 0: without x; 1: without y.
        side: u32,
        /// The group's index.
        group: u32,
        /// The first line within the group, or within the side for the kernel that folds.
        first: u32,
    }
}

device_structure! {
    /// x = scale·m + shift; see [`lopt_kernels::per_param::Exponent`].
    #[derive(Default)]
    Exponent, 12 bytes {
        /// The factor on the head.
        scale: f32,
        /// Added to the scaled head.
        shift: f32,
        /// 1 if m is the mean over the tensor.
        per_tensor: u32,
    }
}

device_structure! {
    /// The optimizer.
    #[derive(Default)]
    Settings, 168 bytes {
        /// The coefficients of g, m₁, m₂, m₃ before the growth.
        nominal: [f64; 4],
        /// Adam's β₁.
        beta1: f64,
        /// Adam's β₂.
        beta2: f64,
        /// ρ, the root mean square to which gradients are scaled.
        gradient_rms: f64,
        /// The step from which on step features are constant and the blackbox term fades.
        time_limit: u64,
        /// The exponent of the nominal term.
        nominal_exponent: Exponent,
        /// The exponent of the blackbox term.
        blackbox_exponent: Exponent,
        /// The factor of the blackbox term.
        blackbox: f32,
        /// 1 if the nominal term is preconditioned.
        nominal_preconditioned: u32,
        /// 1 if the blackbox term is preconditioned.
        blackbox_preconditioned: u32,
        /// 1 if the nominal term grows beyond the time limit.
        grows: u32,
        /// Adam's 1 − β₁.
        one_minus_beta1: f32,
        /// Adam's 1 − β₂.
        one_minus_beta2: f32,
        /// Adam's ε.
        epsilon: f32,
        /// K, or 0 without an online scale.
        learners: u32,
        /// w
        tensor_weight: f32,
        /// κ
        slope_limit: f32,
        /// s₀/K
        start: f32,
        /// β_i
        betas: [f32; LEARNERS],
        /// The number of tensors.
        tensors: u32,
        /// The number of units.
        units: u32,
    }
}

device_structure! {
    /// Where everything is, the same in each launch.
    #[derive(Default)]
    Plan, 128 bytes {
        /// [`Settings`]
        settings: Address,
        /// The decoded θ; see [`theta`](crate::theta).
        theta: Address,
        /// [`Tensor`]s
        tensors: Address,
        /// The tensor of each unit, u32.
        units: Address,
        /// [`Lines`] for the kernel of lines.
        lines: Address,
        /// [`Lines`] for the kernel that folds.
        folds: Address,
        /// [`control`]
        control: Address,
        /// The slot of q and w, or null if gradients are not scaled.
        gradient_square: Address,
        /// The slot of the network's learners, or null.
        learners: Address,
        /// [`outcome`]s
        outcomes: Address,
        /// Finished blocks of each group of lines, u32.
        counters: Address,
        /// ⟨Δ, g⟩ of each unit, f32.
        slopes: Address,
        /// Σg² of each unit, f32.
        squares: Address,
        /// The sums of each unit, f32 \[units, SUMS\].
        sums: Address,
        /// The sums of the heads of each unit, f32 \[units, HEADS\].
        heads: Address,
        /// The sums of each block of lines, f64 \[blocks, LINE_SUMS\].
        line_sums: Address,
    }
}

device_structure! {
    /// The memory of one tensor that may move between steps.
    #[derive(Default)]
    Pointers, 16 bytes {
        /// The parameter.
        p: Address,
        /// The gradient, or null if it is missing.
        g: Address,
    }
}

device_structure! {
    /// The argument of the kernels of one optimizer.
    Arguments, 3728 bytes {
        /// Where everything is.
        plan: Plan,
        /// η, or Adam's learning rate.
        learning_rate: f32,
        /// 0 and 1 in turn.
        parity: u32,
        /// The first tensor of the launch.
        first_tensor: u32,
        /// The first unit of the launch.
        first_unit: u32,
        /// The table of pointers.
        pointers: [Pointers; CAPACITY],
    }
}

device_structure! {
    /// One layer z = x·W + b of the networks of a fleet. Offsets count floats.
    #[derive(Default)]
    Layer, 32 bytes {
        /// The length of x.
        inputs: u32,
        /// The length of z.
        outputs: u32,
        /// Where W \[inputs, outputs\] begins in the parameters of a network.
        weight: u32,
        /// Where b \[outputs\] begins in the parameters of a network.
        bias: u32,
        /// Where z \[batch, outputs\] begins in the values of a network.
        z: u32,
        /// Where the activation of z begins there.
        a: u32,
        /// Where the gradient with respect to z begins there.
        dz: u32,
        /// Padding.
        unused: u32,
    }
}

device_structure! {
    /// Many networks of one shape that are trained together.
    Fleet, 1136 bytes {
        /// [`Arguments`] of the optimizer's kernels, \[2, networks\]: for both parities.
        arguments: Address,
        /// φ, f32 \[networks, size\].
        params: Address,
        /// ∇ℓ, f32 \[networks, size\].
        grads: Address,
        /// What the layers compute, f32 \[networks, value_size\].
        values: Address,
        /// The images' pixels as bytes, \[images, inputs\], or null.
        bytes: Address,
        /// The images' pixels as f32 if they are no bytes, or null.
        floats: Address,
        /// The images' labels, bytes.
        labels: Address,
        /// The images of each minibatch, u32 \[steps, networks/sharing, batch\].
        rows: Address,
        /// The loss of each step, f32, and whether it was skipped, u32: \[steps, networks, 2\].
        results: Address,
        /// Floats of the parameters of a network.
        size: u64,
        /// Floats of the values of a network.
        value_size: u64,
        /// The factor of pixels in \[0, 1\].
        scale: f32,
        /// The number of networks.
        networks: u32,
        /// Consecutive networks that have the same minibatches.
        sharing: u32,
        /// Images of a minibatch.
        batch: u32,
        /// The index among [`Activation::ALL`](lopt_kernels::mlp::Activation::ALL).
        activation: u32,
        /// The number of layers.
        layer_count: u32,
        /// The layers, the first one first.
        layers: [Layer; LAYERS],
    }
}

device_structure! {
    /// The argument of the kernels of a fleet.
    FleetArguments, 1152 bytes {
        /// The networks.
        fleet: Fleet,
        /// The index of the minibatch.
        step: u32,
        /// The index of the layer.
        layer: u32,
        /// 0 and 1 in turn.
        parity: u32,
        /// Padding.
        unused: u32,
    }
}

/// The argument of a kernel.
pub trait Argument: Bytes + Copy + sealed::Sealed {}

impl Argument for Arguments {}
impl Argument for FleetArguments {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Arguments {}
    impl Sealed for super::FleetArguments {}
}

const _: () = assert!(Arguments::SIZE <= LARGEST_ARGUMENT);
const _: () = assert!(FleetArguments::SIZE <= LARGEST_ARGUMENT);

/// Offsets in the state of the network that is no slot. It starts as zeros.
pub mod control {
    /// The size in bytes.
    pub const SIZE: usize = 200;
    /// The number of steps taken, u64.
    pub const STEP: usize = 0;
    /// The number of steps skipped, u64.
    pub const SKIPPED: usize = 8;
    /// Whether a gradient was invalid, u32 for each parity.
    pub const BAD: usize = 16;
}

/// Offsets in the values of one tensor in the current step. They start as zeros.
pub mod outcome {
    /// The size in bytes.
    pub const SIZE: usize = 128;
    /// Invalid entries of the gradient, u32 for each parity.
    pub const BAD: usize = 0;
}
