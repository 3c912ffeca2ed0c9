//! The plan of an optimizer's steps for some tensors: the device's memory and the launches.

use std::{error::Error, fmt, ops::Range};

use crate::{
    bytes::{Bytes, bytes_of},
    layout::{
        self, Address, Arguments, CAPACITY, FOLD_LINES, HEADS, LEARNERS, LINE_SUMS, Lines,
        Pointers, SUMS, Settings, Side, Tensor, control, outcome,
    },
    optimizer::Optimizer,
    theta, tiling,
};

/// The boundary of each array in the device's memory.
const ALIGNMENT: usize = 256;
/// The largest number of elements of a tensor, and of units and blocks of lines in all.
const LARGEST: usize = i32::MAX as usize;

/// The type of a parameter and its gradient. Types of 16 bits need a master copy in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Number {
    F32 = 0,
    F16 = 1,
    BF16 = 2,
}

/// A parameter tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its shape.
    pub dims: Vec<usize>,
    /// For rank ≥ 2, the indices of its second largest and largest dimension.
    pub factored: Option<(usize, usize)>,
    /// Its type.
    pub number: Number,
}

/// The addresses of a tensor's slots and master copy; 0 for those that it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The momenta, \[3, n\]; Adam's m.
    pub momentum: Address,
    /// The second moment, \[n\]; Adam's v.
    pub rms: Address,
    /// For rank ≥ 2, the row moments.
    pub row: Address,
    /// For rank ≥ 2, the column moments.
    pub col: Address,
    /// For rank < 2, the factored second moments, \[3, n\].
    pub diagonal: Address,
    /// The learners of the online scale, \[4, K\].
    pub learners: Address,
    /// The sum of updates of the online scale.
    pub sum: Address,
    /// The parameters in f32 if they have another type.
    pub master: Address,
}

/// The addresses of the network's slots; 0 for those that it does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkSlots {
    /// q and w of the online scale, if gradients are scaled.
    pub gradient_square: Address,
    /// The learners of the online scale, \[4, K\].
    pub learners: Address,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplanned {
    /// A tensor has too many elements.
    TooLarge {
        /// The tensor's index.
        tensor: usize,
    },
    /// The tensors together have too many elements.
    TooLargeTogether,
    /// The number of learners is not from 1 to 7.
    Learners,
}

impl fmt::Display for Unplanned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { tensor } => write!(
                f,
                "tensor {tensor} has more than {LARGEST} elements, the most that the kernels can index"
            ),
            Self::TooLargeTogether => f.write_str("the tensors are too large for one optimizer"),
            Self::Learners => write!(
                f,
                "an online scale has from 1 to {LEARNERS} learners on CUDA"
            ),
        }
    }
}

impl Error for Unplanned {}

/// Arrays one after another in one allocation.
#[derive(Clone, Debug, Default)]
struct Region {
    bytes: usize,
}

impl Region {
    /// Adds an array and returns its offset.
    fn add(&mut self, bytes: usize) -> usize {
        let at = self.bytes;
        self.bytes += bytes.next_multiple_of(ALIGNMENT);
        at
    }

    fn add_floats(&mut self, count: usize) -> usize {
        self.add(count * f32::SIZE)
    }
}

/// Offsets of the arrays that do not change.
#[derive(Clone, Debug)]
struct Constants {
    settings: usize,
    theta: usize,
    tensors: usize,
    units: usize,
    lines: usize,
    folds: usize,
    bytes: usize,
}

/// Offsets of the arrays that kernels write.
#[derive(Clone, Debug)]
struct Scratch {
    outcomes: usize,
    counters: usize,
    slopes: usize,
    squares: usize,
    sums: usize,
    heads: usize,
    line_sums: usize,
    /// The parts, factors and folds of each side of each tensor.
    sides: Vec<[[usize; 3]; 2]>,
    bytes: usize,
}

/// One launch. Its grid has one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: String,
    /// The number of blocks.
    pub blocks: u32,
    /// The threads of a block.
    pub threads: u32,
    /// The tensors whose pointers it needs, by index.
    pub tensors: Range<usize>,
    /// The unit of its first block.
    first_unit: u32,
}

/// The plan of an optimizer's steps for some tensors.
///
/// The host allocates [`Plan::constant_bytes`] and [`Plan::scratch_bytes`], the latter zeroed, and
/// copies [`Plan::constants`] to the former. For each step it launches [`Plan::launches`] with
/// [`Plan::arguments`], all in one stream.
#[derive(Clone, Debug)]
pub struct Plan {
    optimizer: Optimizer,
    tensors: Vec<Tensor>,
    lines: Vec<Lines>,
    folds: Vec<Lines>,
    constants: Constants,
    scratch: Scratch,
    launches: Vec<Launch>,
}

fn units_of(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.units as usize).sum()
}

/// Returns the blocks of lines, and numbers them and the counters in the tensors.
fn blocks_of_lines(tensors: &mut [Tensor]) -> (Vec<Lines>, Vec<Lines>, usize) {
    let (mut lines, mut folds, mut counters) = (vec![], vec![], 0);
    for (index, tensor) in tensors.iter_mut().enumerate() {
        for (number, side) in tensor.sides.iter_mut().enumerate() {
            let block = |group: u32, first: u32| Lines {
                tensor: index as u32,
                side: number as u32,
                group,
                first,
            };
            side.first_block = lines.len() as u32;
            side.first_counter = counters;
            counters += side.groups;
            for group in 0..side.groups {
                let firsts = (0..side.group_blocks).map(|at| at * side.block_lines);
                lines.extend(firsts.map(|first| block(group, first)));
            }
            let firsts = (0..side.lines).step_by(FOLD_LINES);
            folds.extend(firsts.map(|first| block(0, first)));
        }
    }
    (lines, folds, counters as usize)
}

impl Plan {
    /// Plans the steps of an optimizer.
    ///
    /// # Errors
    /// Returns [`Unplanned`] if the kernels cannot index the tensors, or the scale has too many
    /// learners.
    pub fn new(optimizer: &Optimizer, specs: &[Spec]) -> Result<Self, Unplanned> {
        let learners = optimizer.scale.as_ref().map(|scale| scale.learners);
        if learners.is_some_and(|count| !(1..=LEARNERS).contains(&count)) {
            return Err(Unplanned::Learners);
        }
        let hidden = optimizer.hidden();
        let mut tensors = vec![];
        let mut first_unit = 0;
        for (index, spec) in specs.iter().enumerate() {
            let product = |n: usize, dim: &usize| n.checked_mul(*dim);
            let n = spec.dims.iter().try_fold(1, product);
            let n = n.filter(|n| *n <= LARGEST);
            let n = n.ok_or(Unplanned::TooLarge { tensor: index })?;
            let mut tensor = match spec.factored {
                Some(order) if hidden > 0 => tiling::factored(&spec.dims, order),
                _ => tiling::diagonal(n),
            };
            tensor.number = spec.number as u32;
            tensor.first_unit = first_unit;
            first_unit = u32::checked_add(first_unit, tensor.units)
                .filter(|units| *units as usize <= LARGEST)
                .ok_or(Unplanned::TooLargeTogether)?;
            tensors.push(tensor);
        }
        let (lines, folds, counters) = blocks_of_lines(&mut tensors);
        if lines.len().max(folds.len()) + tensors.len() >= LARGEST {
            return Err(Unplanned::TooLargeTogether);
        }
        let mut plan = Self {
            optimizer: optimizer.clone(),
            constants: constants_of(hidden, &tensors, lines.len(), folds.len()),
            scratch: scratch_of(hidden, &tensors, lines.len(), counters),
            tensors,
            lines,
            folds,
            launches: vec![],
        };
        plan.launches = plan.all_launches();
        Ok(plan)
    }

    /// The size of the memory that does not change.
    pub fn constant_bytes(&self) -> usize {
        self.constants.bytes
    }

    /// The size of the memory that kernels write, which must start as zeros. [`control`] is its
    /// beginning.
    pub fn scratch_bytes(&self) -> usize {
        self.scratch.bytes
    }

    /// Where θ begins in the constants, to replace its values.
    pub fn theta_offset(&self) -> usize {
        self.constants.theta
    }

    /// Where the number of invalid entries in the gradient of a tensor stands in the scratch
    /// memory, u32, after a step with this parity.
    pub fn bad_offset(&self, tensor: usize, parity: u32) -> usize {
        let outcome = self.scratch.outcomes + tensor * outcome::SIZE;
        outcome + outcome::BAD + parity as usize * u32::SIZE
    }

    /// The launches of a step, in their order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// Returns the content of the constants: `theta` has the values of
    /// [`theta::values`](crate::theta::values), and is empty for Adam.
    ///
    /// # Panics
    /// Panics if `theta` or `slots` has the wrong length, or a tensor of 16 bits has no master copy.
    pub fn constants(&self, scratch: Address, theta: &[f32], slots: &[Slots]) -> Vec<u8> {
        assert!(slots.len() == self.tensors.len());
        assert!(theta.len() == theta::len(self.optimizer.hidden()));
        let settings = Settings {
            tensors: self.tensors.len() as u32,
            units: units_of(&self.tensors) as u32,
            ..self.optimizer.settings()
        };
        let placed = |(index, slots): (usize, &Slots)| self.placed(scratch, index, slots);
        let tensors: Vec<Tensor> = slots.iter().enumerate().map(placed).collect();
        let units = self.tensors.iter().enumerate();
        let units: Vec<u32> = units
            .flat_map(|(index, tensor)| (0..tensor.units).map(move |_| index as u32))
            .collect();
        let mut content = vec![0; self.constants.bytes];
        for (at, bytes) in [
            (self.constants.settings, bytes_of(&[settings])),
            (self.constants.theta, bytes_of(theta)),
            (self.constants.tensors, bytes_of(&tensors)),
            (self.constants.units, bytes_of(&units)),
            (self.constants.lines, bytes_of(&self.lines)),
            (self.constants.folds, bytes_of(&self.folds)),
        ] {
            content[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        content
    }

    /// Returns a tensor with its addresses.
    fn placed(&self, scratch: Address, index: usize, slots: &Slots) -> Tensor {
        let mut tensor = self.tensors[index];
        let is_complete = tensor.number == Number::F32 as u32 || slots.master != 0;
        assert!(
            is_complete || tensor.elements == 0,
            "tensor {index} of 16 bits needs a master copy in f32"
        );
        for (side, offsets) in tensor.sides.iter_mut().zip(&self.scratch.sides[index]) {
            if side.lines > 0 {
                let [parts, factors, folds] = offsets.map(|at| scratch + at as Address);
                let moments = if side.is_row == 1 {
                    slots.row
                } else {
                    slots.col
                };
                *side = Side {
                    moments,
                    parts,
                    factors,
                    folds,
                    ..*side
                };
            }
        }
        Tensor {
            momentum: slots.momentum,
            rms: slots.rms,
            diagonal: slots.diagonal,
            learners: slots.learners,
            sum: slots.sum,
            master: slots.master,
            ..tensor
        }
    }

    /// Returns where everything is.
    ///
    /// # Panics
    /// Panics if the network has q and w but gradients are not scaled, or the reverse.
    pub fn places(
        &self,
        constants: Address,
        scratch: Address,
        network: NetworkSlots,
    ) -> layout::Plan {
        assert!((network.gradient_square != 0) == self.optimizer.scales_gradients());
        let constant = |at: usize| constants + at as Address;
        let written = |at: usize| scratch + at as Address;
        layout::Plan {
            settings: constant(self.constants.settings),
            theta: constant(self.constants.theta),
            tensors: constant(self.constants.tensors),
            units: constant(self.constants.units),
            lines: constant(self.constants.lines),
            folds: constant(self.constants.folds),
            control: scratch,
            gradient_square: network.gradient_square,
            learners: network.learners,
            outcomes: written(self.scratch.outcomes),
            counters: written(self.scratch.counters),
            slopes: written(self.scratch.slopes),
            squares: written(self.scratch.squares),
            sums: written(self.scratch.sums),
            heads: written(self.scratch.heads),
            line_sums: written(self.scratch.line_sums),
        }
    }

    /// Returns the argument of a launch. `parity` is 0 and 1 in turn, for each attempt at a step;
    /// `pointers` are those of all tensors.
    pub fn arguments(
        &self,
        launch: &Launch,
        places: &layout::Plan,
        learning_rate: f32,
        parity: u32,
        pointers: &[Pointers],
    ) -> Arguments {
        let mut table = [Pointers::default(); CAPACITY];
        let ours = &pointers[launch.tensors.clone()];
        table[..ours.len()].copy_from_slice(ours);
        Arguments {
            plan: *places,
            learning_rate,
            parity,
            first_tensor: launch.tensors.start as u32,
            first_unit: launch.first_unit,
            pointers: table,
        }
    }

    fn all_launches(&self) -> Vec<Launch> {
        let hidden = self.optimizer.hidden();
        let of_width = |kernel: &str| match hidden {
            0 => kernel.to_owned(),
            hidden => format!("{kernel}_{hidden}"),
        };
        let mut launches = self.over_units("lopt_gradients");
        if !self.lines.is_empty() {
            let threads = layout::LINE_THREADS;
            launches.push(once("lopt_lines".to_owned(), self.lines.len(), threads));
        }
        if hidden > 0 {
            launches.extend(self.over_units("lopt_accumulate"));
        }
        let blocks = 1 + self.tensors.len() + self.folds.len();
        launches.push(once(of_width("lopt_finish"), blocks, layout::THREADS));
        if self.optimizer.is_per_tensor() {
            launches.extend(self.over_units(&of_width("lopt_heads")));
        }
        launches.extend(match hidden {
            0 => self.over_units("lopt_adam"),
            _ => self.over_units(&of_width("lopt_apply")),
        });
        launches
    }

    /// Returns the launches of a kernel with one block for each unit: one for each table of
    /// pointers.
    fn over_units(&self, kernel: &str) -> Vec<Launch> {
        let starts = (0..self.tensors.len()).step_by(CAPACITY);
        let launch = |start: usize| {
            let end = self.tensors.len().min(start + CAPACITY);
            let tensors = &self.tensors[start..end];
            Launch {
                kernel: kernel.to_owned(),
                blocks: units_of(tensors) as u32,
                threads: layout::THREADS as u32,
                tensors: start..end,
                first_unit: tensors[0].first_unit,
            }
        };
        starts
            .map(launch)
            .filter(|launch| launch.blocks > 0)
            .collect()
    }
}

/// Returns a launch that needs no pointers.
fn once(kernel: String, blocks: usize, threads: usize) -> Launch {
    Launch {
        kernel,
        blocks: blocks as u32,
        threads: threads as u32,
        tensors: 0..0,
        first_unit: 0,
    }
}

fn constants_of(hidden: usize, tensors: &[Tensor], lines: usize, folds: usize) -> Constants {
    let mut region = Region::default();
    Constants {
        settings: region.add(Settings::SIZE),
        theta: region.add_floats(theta::len(hidden)),
        tensors: region.add(tensors.len() * Tensor::SIZE),
        units: region.add(units_of(tensors) * u32::SIZE),
        lines: region.add(lines * Lines::SIZE),
        folds: region.add(folds * Lines::SIZE),
        bytes: region.bytes,
    }
}

fn scratch_of(hidden: usize, tensors: &[Tensor], lines: usize, counters: usize) -> Scratch {
    let mut region = Region::default();
    region.add(control::SIZE);
    let units = units_of(tensors);
    Scratch {
        outcomes: region.add(tensors.len() * outcome::SIZE),
        counters: region.add(counters * u32::SIZE),
        slopes: region.add_floats(units),
        squares: region.add_floats(units),
        sums: region.add_floats(units * SUMS),
        heads: region.add_floats(units * HEADS),
        line_sums: region.add(lines * LINE_SUMS * f64::SIZE),
        sides: tensors
            .iter()
            .map(|tensor| {
                tensor.sides.map(|side| {
                    let (lines, parts) = (side.lines as usize, side.part_count as usize);
                    [lines * parts, 3 * lines, hidden * lines].map(|count| region.add_floats(count))
                })
            })
            .collect(),
        bytes: region.bytes,
    }
}
