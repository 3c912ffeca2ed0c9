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
    plan: Plan,
    constants: D::Memory,
    scratch: D::Memory,
    slots: D::Memory,
    places: layout::Plan,
    /// The kernel of each launch of the plan.
    kernels: Vec<D::Kernel>,
    /// Of the next step.
    parity: u32,
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
        let kernel = |launch: &lopt_cuda::Launch| device.kernel(&launch.kernel);
        let kernels = plan.launches().iter().map(kernel).collect::<Result<_>>()?;
        let slots = device.zeros(slot_bytes)?;
        let scratch = device.zeros(plan.scratch_bytes())?;
        let mut constants = device.zeros(plan.constant_bytes())?;
        let (network, tensors) = places(device.address(&slots))?;
        let at = device.address(&scratch);
        device.write(&mut constants, 0, &plan.constants(at, theta, &tensors))?;
        let places = plan.places(device.address(&constants), at, network);
        Ok(Self {
            device,
            plan,
            constants,
            scratch,
            slots,
            places,
            kernels,
            parity: 0,
        })
    }

    pub fn device(&self) -> &D {
        &self.device
    }

    /// Launches one step.
    pub fn step(&mut self, learning_rate: f32, pointers: &[Pointers]) -> Result<()> {
        let parity = self.parity;
        self.parity = 1 - parity;
        for (launch, kernel) in self.plan.launches().iter().zip(&self.kernels) {
            let places = &self.places;
            let arguments = self
                .plan
                .arguments(launch, places, learning_rate, parity, pointers);
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
            let at = self.plan.bad_offset(tensor, 1 - self.parity);
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
        self.device.read(&self.scratch, at, &mut bytes)?;
        Ok(bytes)
    }

    pub fn set_taken(&mut self, steps: u64) -> Result<()> {
        let bytes = steps.to_ne_bytes();
        self.device.write(&mut self.scratch, control::STEP, &bytes)
    }

    /// Replaces the decoded θ.
    pub fn set_theta(&mut self, values: &[f32]) -> Result<()> {
        let (at, bytes) = (self.plan.theta_offset(), bytes_of(values));
        self.device.write(&mut self.constants, at, &bytes)
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
