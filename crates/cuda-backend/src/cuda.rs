//! Candle's CUDA tensors, and the launches through candle's own binding of the driver.

// The one module that may: launches, which no compiler can check.
#![allow(unsafe_code)]

use std::sync::Arc;

use candle_core::{
    CudaDevice, DType, Storage, Tensor,
    backend::BackendDevice,
    cuda_backend::{
        CudaStorageSlice, WrapErr,
        cudarc::driver::{
            CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
        },
    },
};
use lopt_core::{Backend, Error, Optimizer, Params, Result};
use lopt_cuda::{
    PTX,
    layout::{Address, Argument},
};

use crate::{Classifier, Device, Fleet, Kernels, MlpFleet, OnDevice};

/// The name of the kernels among candle's modules of a device.
const MODULE: &str = "lopt";

/// Returns the backend for an optimizer with these kernels; `None` if there are none, or the
/// parameters are not all contiguous f32 tensors on one GPU.
///
/// # Errors
/// Returns an error if the optimizer has a setting out of range, or the GPU does not have the memory
/// or cannot run the kernels.
pub fn backend(
    optimizer: &dyn Optimizer,
    params: &Params,
    kernels: impl FnOnce() -> Option<Kernels>,
) -> Result<Option<Box<dyn Backend>>> {
    let Some(device) = Cuda::of(params) else {
        return Ok(None);
    };
    let Some(kernels) = kernels() else {
        return Ok(None);
    };
    let backend = OnDevice::new(device, optimizer, kernels, params)?;
    Ok(backend.map(|backend| Box::new(backend) as _))
}

/// Returns networks that are trained together on this device; `None` if it is no GPU, or there is no
/// plan for them.
///
/// # Errors
/// Returns an error if the optimizer has a setting out of range, or the GPU does not have the memory
/// or cannot run the kernels.
pub fn fleet(
    device: &candle_core::Device,
    optimizer: &dyn Optimizer,
    kernels: &Kernels,
    classifier: &Classifier,
    networks: usize,
    sharing: usize,
) -> Result<Option<Box<dyn Fleet>>> {
    let Ok(device) = device.as_cuda_device() else {
        return Ok(None);
    };
    let device = Cuda::new(device.clone());
    let fleet = MlpFleet::new(device, optimizer, kernels, classifier, networks, sharing)?;
    Ok(fleet.map(|fleet| Box::new(fleet) as _))
}

/// The stream of one of candle's devices. It is private, and so are its launches: only sessions
/// and fleets make them, with the addresses of their own memory and of tensors.
struct Cuda {
    device: CudaDevice,
    stream: Arc<CudaStream>,
}

impl Cuda {
    /// The device of contiguous f32 tensors, if it is the same GPU for all of them.
    fn of(params: &Params) -> Option<Self> {
        let first = params.tensors().first()?.device();
        let fits = |t: &Tensor| {
            t.dtype() == DType::F32 && t.is_contiguous() && t.device().same_device(first)
        };
        let device = first.as_cuda_device().ok()?.clone();
        let all_fit = params.tensors().iter().all(fits);
        all_fit.then(|| Self::new(device))
    }

    fn new(device: CudaDevice) -> Self {
        let stream = device.cuda_stream();
        Self { device, stream }
    }
}

/// The argument of a kernel, for cudarc.
#[repr(transparent)]
struct Passed<A>(A);

// SAFETY: it consists of numbers without padding, in the order of the kernels' structure: both
// sides check the size, and the tests run the kernels with it. There are two such types, and no crate
// can add another.
unsafe impl<A: Argument> DeviceRepr for Passed<A> {}

impl Device for Cuda {
    type Memory = CudaSlice<u8>;
    type Kernel = CudaFunction;

    fn zeros(&self, bytes: usize) -> Result<Self::Memory> {
        Ok(self.device.alloc_zeros(bytes.max(1))?)
    }

    fn address(&self, memory: &Self::Memory) -> Address {
        memory.device_ptr(&self.stream).0
    }

    fn write(&self, memory: &mut Self::Memory, at: usize, content: &[u8]) -> Result<()> {
        if content.is_empty() {
            return Ok(());
        }
        let mut to = memory.slice_mut(at..at + content.len());
        Ok(self.stream.memcpy_htod(content, &mut to).w()?)
    }

    fn read(&self, memory: &Self::Memory, at: usize, content: &mut [u8]) -> Result<()> {
        if content.is_empty() {
            return Ok(());
        }
        let from = memory.slice(at..at + content.len());
        self.stream.memcpy_dtoh(&from, content).w()?;
        Ok(self.stream.synchronize().w()?)
    }

    fn kernel(&self, name: &str) -> Result<Self::Kernel> {
        let loaded = self.device.get_or_load_custom_func(name, MODULE, PTX);
        let kernel = loaded.map_err(|error| {
            Error::Mismatch(format!(
                "the GPU cannot load the kernel `{name}` ({error}). It needs compute capability \
                 8.0, and a driver at least as new as the CUDA toolkit that built this program: see \
                 `nvidia-smi`"
            ))
        })?;
        Ok(kernel.into_cuda_function())
    }

    fn launch(
        &self,
        kernel: &Self::Kernel,
        [blocks, networks]: [u32; 2],
        threads: u32,
        argument: &impl Argument,
    ) -> Result<()> {
        let argument = Passed(*argument);
        let config = LaunchConfig {
            grid_dim: (blocks, networks, 1),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut builder = self.stream.launch_builder(kernel);
        builder.arg(&argument);
        // SAFETY: each kernel takes this one argument, and the plan that names the kernel makes it.
        // Its addresses are those of the memory of a session or a fleet, which lives as long as the
        // kernels' results matter and is freed in the order of the stream, and of parameters and
        // gradients, contiguous tensors with the type and the number of elements that the plan was made
        // for (`OnDevice::step` checks that). The tests run the kernels on a CPU and show that they stay
        // within this memory. Nothing else writes it meanwhile: candle works in the same stream, and
        // no gradient shares memory with a parameter.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }

    fn address_of(&self, tensor: &Tensor, dtype: DType) -> Result<Address> {
        let (storage, layout) = tensor.storage_and_layout();
        let other = || {
            Error::Mismatch(format!(
                "the optimizer was created for contiguous {dtype:?} tensors on one device, {:?}, but \
                 now one is {:?} on {:?}; create another optimizer for it",
                self.device.location(),
                tensor.dtype(),
                tensor.device().location()
            ))
        };
        let (Storage::Cuda(storage), Some((start, _))) = (&*storage, layout.contiguous_offsets())
        else {
            return Err(other());
        };
        if tensor.dtype() != dtype || storage.device.id() != self.device.id() {
            return Err(other());
        }
        let (first, _) = match &storage.slice {
            CudaStorageSlice::F32(values) => values.device_ptr(&self.stream),
            CudaStorageSlice::F16(values) => values.device_ptr(&self.stream),
            CudaStorageSlice::BF16(values) => values.device_ptr(&self.stream),
            _ => return Err(other()),
        };
        Ok(first + (start * dtype.size_in_bytes()) as Address)
    }
}
