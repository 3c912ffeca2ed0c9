//! The [`Backend`](lopt_core::Backend) that takes optimizer steps with the CUDA kernels of
//! [`lopt_cuda`].
//!
//! [`backend`] returns it for contiguous f32 tensors on a GPU, which may be copies of tensors in f16 or
//! bf16 ([`round_to`](lopt_core::Backend::round_to)). [`OnDevice`] keeps all slots of an optimizer in
//! the device's memory. When it is created, it allocates memory and uploads θ and the constants of the
//! plan; θ is uploaded again only when it is replaced. A step uploads and allocates nothing: it
//! launches the kernels of the [`Plan`](lopt_cuda::Plan), whose arguments contain the addresses of
//! parameters and gradients. If steps with an invalid gradient are skipped, a step does not wait for
//! the device; otherwise it reads 4 bytes, which say whether a gradient is invalid.
//!
//! [`fleet`] returns a [`Fleet`], many MLPs of one shape on a GPU that are trained together: all of
//! them take an inner step in the same launches. A sequence of steps needs one upload of minibatches,
//! one of θ if it changed, the launches, and one read of the losses.
//!
//! The host's part is written for any [`Device`]; the feature `cuda` adds that of candle's CUDA
//! tensors. Without this feature, the tests run the same code on a stand-in, which counts all
//! operations and executes the kernels on the CPU.
//!
//! The kernels are compiled to PTX when the crate is built, because candle's feature `cuda` needs nvcc
//! then anyway. Compiling them at run time would require another NVIDIA library on the user's machine,
//! and every program would wait for the compiler at its start; the driver translates PTX on first use
//! and keeps the result on disk.
//!
//! A step is taken in the stream of the tensors' [`candle_core::CudaDevice`]. `Device::new_cuda`
//! gives each thread a stream of its own, and candle does not synchronize them: use tensors and
//! optimizer from one thread, or create the device with `Device::new_cuda_with_stream`.

#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod fleet;
mod kernels;
mod on_device;
mod session;
mod slots;

#[cfg(feature = "cuda")]
pub use cuda::{backend, fleet};
pub use device::Device;
pub use fleet::{Classifier, Fleet, MlpFleet, Pixels, Step};
pub use kernels::Kernels;
pub use on_device::OnDevice;

/// Returns `None`: the crate was built without the feature `cuda`.
///
/// # Errors
/// Returns none.
#[cfg(not(feature = "cuda"))]
pub fn backend(
    _optimizer: &dyn lopt_core::Optimizer,
    _params: &lopt_core::Params,
    _kernels: impl FnOnce() -> Option<Kernels>,
) -> lopt_core::Result<Option<Box<dyn lopt_core::Backend>>> {
    Ok(None)
}

/// Returns `None`: the crate was built without the feature `cuda`.
///
/// # Errors
/// Returns none.
#[cfg(not(feature = "cuda"))]
pub fn fleet(
    _device: &candle_core::Device,
    _optimizer: &dyn lopt_core::Optimizer,
    _kernels: &Kernels,
    _classifier: &Classifier,
    _networks: usize,
    _sharing: usize,
) -> lopt_core::Result<Option<Box<dyn Fleet>>> {
    Ok(None)
}
