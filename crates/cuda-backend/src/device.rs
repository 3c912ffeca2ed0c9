//! What a step needs of a device.

use candle_core::{DType, Tensor};
use lopt_core::Result;
use lopt_cuda::layout::{Address, Argument};

/// A device that runs the kernels: memory, and launches in one order.
pub trait Device: Send + Sync {
    /// Memory on the device, which is freed when the value is dropped.
    type Memory: Send + Sync;

    /// A kernel that was loaded.
    type Kernel: Send + Sync;

    /// Allocates memory of zeros.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    fn zeros(&self, bytes: usize) -> Result<Self::Memory>;

    /// The address of the first byte of `memory`, a multiple of 256.
    fn address(&self, memory: &Self::Memory) -> Address;

    /// Copies `content` to `memory`, starting at the byte offset `at`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn write(&self, memory: &mut Self::Memory, at: usize, content: &[u8]) -> Result<()>;

    /// Waits for all launches, then fills `content` from `memory`, starting at the byte offset `at`.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn read(&self, memory: &Self::Memory, at: usize, content: &mut [u8]) -> Result<()>;

    /// Loads the kernel with this name.
    ///
    /// # Errors
    /// Returns an error if there is none, or the device cannot run it.
    fn kernel(&self, name: &str) -> Result<Self::Kernel>;

    /// Launches a kernel after all launches and copies before it, without waiting for it. `grid` is
    /// \[blocks, networks\], and a block has `threads` threads.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    fn launch(
        &self,
        kernel: &Self::Kernel,
        grid: [u32; 2],
        threads: u32,
        argument: &impl Argument,
    ) -> Result<()>;

    /// The address of the first value of a contiguous tensor of type `dtype`: f32, f16 or bf16.
    ///
    /// # Errors
    /// Returns an error if the tensor is not contiguous, of another type, or on another device.
    fn address_of(&self, tensor: &Tensor, dtype: DType) -> Result<Address>;
}
