//! The device's memory of one optimizer, and the launches of its steps.

use lopt_core::Result;
use lopt_cuda::{
    NetworkSlots, Plan, Slots,
    bytes::{Bytes, bytes_of},
    layout::{self, Address, Pointers, control},
};

use crate::Device;

/// The memory that the kernels use besides parameters and gradients.
pub struct Session<D: Device> {
    device: D,
    slots: D::Memory,
    planned: Planned<D>,
    /// Of the next step.
    parity: u32,
}

/// A plan, and what its launches need.
struct Planned<D: Device> {
    plan: Plan,
    constants: D::Memory,
    scratch: D::Memory,
    places: layout::Plan,
    /// The kernel of each launch of the plan.
    kernels: Vec<D::Kernel>,
}

impl<D: Device> Planned<D> {
    fn new(
        device: &D,
        plan: Plan,
        theta: &[f32],
        (network, tensors): &(NetworkSlots, Vec<Slots>),
    ) -> Result<Self> {
        let kernel = |launch: &lopt_cuda::Launch| device.kernel(&launch.kernel);
        let kernels = plan.launches().iter().map(kernel).collect::<Result<_>>()?;
        let scratch = device.zeros(plan.scratch_bytes())?;
        let mut constants = device.zeros(plan.constant_bytes())?;
        let at = device.address(&scratch);
        device.write(&mut constants, 0, &plan.constants(at, theta, tensors))?;
        let places = plan.places(device.address(&constants), at, *network);
        Ok(Self {
            plan,
            constants,
            scratch,
            places,
            kernels,
        })
    }
}

impl<D: Device> Session<D> {
    /// Allocates the memory, and uploads the constants with a decoded θ. `places` returns where the
    /// slots are if their memory begins at an address.
    pub fn new(
        device: D,
        plan: Plan,
        theta: &[f32],
        slot_bytes: usize,
        places: impl FnOnce(Address) -> Result<(NetworkSlots, Vec<Slots>)>,
    ) -> Result<Self> {
        let slots = device.zeros(slot_bytes)?;
        let places = places(device.address(&slots))?;
        Ok(Self {
            planned: Planned::new(&device, plan, theta, &places)?,
            device,
            slots,
            parity: 0,
        })
    }

    /// Goes on with another plan and the same slots, for which `places` returns where they are.
    pub fn replan(
        &mut self,
        plan: Plan,
        theta: &[f32],
        places: impl FnOnce(Address) -> Result<(NetworkSlots, Vec<Slots>)>,
    ) -> Result<()> {
        let taken = self.taken()?;
        let places = places(self.device.address(&self.slots))?;
        self.planned = Planned::new(&self.device, plan, theta, &places)?;
        self.parity = 0;
        self.set_taken(taken)
    }

    pub fn device(&self) -> &D {
        &self.device
    }

    /// Launches one step.
    pub fn step(&mut self, learning_rate: f32, pointers: &[Pointers]) -> Result<()> {
        let parity = self.parity;
        self.parity = 1 - parity;
        let Planned {
            plan,
            places,
            kernels,
            ..
        } = &self.planned;
        for (launch, kernel) in plan.launches().iter().zip(kernels) {
            let arguments = plan.arguments(launch, places, learning_rate, parity, pointers);
            let grid = [launch.blocks, 1];
            self.device
                .launch(kernel, grid, launch.threads, &arguments)?;
        }
        Ok(())
    }

    /// Whether the last step was skipped for an invalid gradient. Reads 4 bytes.
    pub fn was_skipped(&self) -> Result<bool> {
        let at = control::BAD + (1 - self.parity) as usize * u32::SIZE;
        Ok(u32::from_ne_bytes(self.scratch_at(at)?) != 0)
    }

    /// The first tensor whose gradient was invalid in the last step.
    pub fn first_invalid(&self, tensors: usize) -> Result<Option<usize>> {
        for tensor in 0..tensors {
            let at = self.planned.plan.bad_offset(tensor, 1 - self.parity);
            if u32::from_ne_bytes(self.scratch_at(at)?) != 0 {
                return Ok(Some(tensor));
            }
        }
        Ok(None)
    }

    /// The number of steps taken.
    pub fn taken(&self) -> Result<u64> {
        Ok(u64::from_ne_bytes(self.scratch_at(control::STEP)?))
    }

    /// The number of steps skipped.
    pub fn skipped(&self) -> Result<u64> {
        Ok(u64::from_ne_bytes(self.scratch_at(control::SKIPPED)?))
    }

    fn scratch_at<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.device.read(&self.planned.scratch, at, &mut bytes)?;
        Ok(bytes)
    }

    pub fn set_taken(&mut self, steps: u64) -> Result<()> {
        let bytes = steps.to_ne_bytes();
        let scratch = &mut self.planned.scratch;
        self.device.write(scratch, control::STEP, &bytes)
    }

    /// Replaces the decoded θ.
    pub fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let (at, bytes) = (self.planned.plan.theta_offset(), bytes_of(values));
        self.device.write(&mut self.planned.constants, at, &bytes)
    }

    /// Returns the values of a slot.
    pub fn slot(&self, at: usize, count: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; count * f32::SIZE];
        self.device.read(&self.slots, at, &mut bytes)?;
        let (values, _) = bytes.as_chunks::<{ f32::SIZE }>();
        Ok(values.iter().copied().map(f32::from_ne_bytes).collect())
    }

    /// Replaces the values of a slot.
    pub fn set_slot(&mut self, at: usize, values: &[f32]) -> Result<()> {
        self.device.write(&mut self.slots, at, &bytes_of(values))
    }
}
