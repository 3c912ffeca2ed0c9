//! A stand-in for a GPU: its memory is that of a process, which runs the kernels compiled for the
//! CPU. It counts what a step asks of a device.

use std::{
    collections::HashMap,
    io::{Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor, TensorId, WithDType};
use half::{bf16, f16};
use lopt_core::Params;
use lopt_cuda::{
    bytes::{Bytes, bytes_of},
    layout::{Address, Argument},
};
use lopt_cuda_backend::Device;

use crate::program::Program;

/// Where the memory begins, and its size, of which the system provides what is used.
const BASE: Address = 0x10_0000_0000;
const SIZE: u64 = 1 << 32;

/// What the device was asked to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// The names of the launched kernels.
    pub launches: Vec<String>,
    /// The bytes of each upload.
    pub writes: Vec<usize>,
    /// The bytes of each read, for which the host waits.
    pub reads: Vec<usize>,
    pub allocations: usize,
    pub freed: usize,
}

/// Clones are the same device.
#[derive(Clone)]
pub struct StandIn(Arc<Mutex<Machine>>);

struct Machine {
    process: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    counts: Counts,
    /// The first address that is free.
    free: Address,
    /// Where the values of a tensor of the host are. A GPU has them from the start.
    tensors: HashMap<TensorId, Address>,
}

pub struct Memory {
    at: Address,
    device: StandIn,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.device.machine().counts.freed += 1;
    }
}

fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| Program::compile(&["-O2"]).unwrap_or_else(|errors| panic!("{errors}")))
}

fn watched() -> Result<&'static Program, &'static String> {
    static PROGRAM: OnceLock<Result<Program, String>> = OnceLock::new();
    PROGRAM.get_or_init(Program::watched).as_ref()
}

impl Machine {
    fn start(program: &Program) -> Self {
        let mut command = Command::new(&program.path);
        command
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut machine = Self {
            input: process.stdin.take(),
            output: process.stdout.take().unwrap(),
            process,
            counts: Counts::default(),
            free: BASE,
            tensors: HashMap::new(),
        };
        machine.send(&bytes_of(&[BASE, SIZE, 0]));
        machine
    }

    fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(bytes).expect("the process has ended");
    }

    fn allocate(&mut self, bytes: usize) -> Address {
        let at = self.free;
        self.free = (at + bytes as Address + 1).next_multiple_of(256);
        at
    }

    fn write(&mut self, to: Address, content: &[u8]) {
        self.send(&bytes_of(&[3, to - BASE, content.len() as u64]));
        self.send(content);
    }

    fn read(&mut self, from: Address, content: &mut [u8]) {
        self.send(&bytes_of(&[2, from - BASE, content.len() as u64]));
        let input = self.input.as_mut().unwrap();
        input.flush().unwrap();
        let result = self.output.read_exact(content);
        result.expect("the process has ended");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = self.process.wait();
        if !std::thread::panicking() {
            assert!(ended.unwrap().success());
        }
    }
}

impl StandIn {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Machine::start(program()))))
    }

    /// A device whose threads run at the same time and are watched, which takes long; `None`, with the
    /// reason, where that is not possible.
    pub fn watched() -> Option<Self> {
        let program = watched()
            .inspect_err(|why| println!("skipped: {why}"))
            .ok()?;
        Some(Self(Arc::new(Mutex::new(Machine::start(program)))))
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap()
    }

    /// Returns the counts since the last call.
    pub fn counts(&self) -> Counts {
        std::mem::take(&mut self.machine().counts)
    }

    /// Copies the parameters back to the host, where a step in place should have changed them.
    pub fn pull(&self, params: &Params) -> lopt_core::Result<()> {
        let mut machine = self.machine();
        for p in params.tensors() {
            if let Some(&at) = machine.tensors.get(&p.id()) {
                let mut bytes = vec![0; p.elem_count() * p.dtype().size_in_bytes()];
                machine.read(at, &mut bytes);
                p.inplace_op1(&Replaced(bytes))?;
            }
        }
        Ok(())
    }
}

/// Replaces the values of a tensor of the host.
struct Replaced(Vec<u8>);

impl InplaceOp1 for Replaced {
    fn name(&self) -> &'static str {
        "replaced"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("not a contiguous tensor")
        };
        let range = start..end;
        match storage {
            CpuStorage::F32(values) => replace(&mut values[range], &self.0, f32::from_ne_bytes),
            CpuStorage::F16(values) => replace(&mut values[range], &self.0, f16::from_ne_bytes),
            CpuStorage::BF16(values) => replace(&mut values[range], &self.0, bf16::from_ne_bytes),
            _ => candle_core::bail!("a tensor of another type"),
        }
        Ok(())
    }
}

fn replace<T, const N: usize>(values: &mut [T], bytes: &[u8], from: fn([u8; N]) -> T) {
    let (new, _) = bytes.as_chunks::<N>();
    for (value, new) in values.iter_mut().zip(new) {
        *value = from(*new);
    }
}

/// The bytes of a tensor's values.
fn content<T: WithDType, const N: usize>(
    tensor: &Tensor,
    bytes: fn(T) -> [u8; N],
) -> lopt_core::Result<Vec<u8>> {
    let values = tensor.flatten_all()?.to_vec1::<T>()?;
    Ok(values.into_iter().flat_map(bytes).collect())
}

impl Device for StandIn {
    type Memory = Memory;
    type Kernel = String;

    fn zeros(&self, bytes: usize) -> lopt_core::Result<Memory> {
        let mut machine = self.machine();
        machine.counts.allocations += 1;
        let at = machine.allocate(bytes);
        let device = self.clone();
        Ok(Memory { at, device })
    }

    fn address(&self, memory: &Memory) -> Address {
        memory.at
    }

    fn write(&self, memory: &mut Memory, at: usize, content: &[u8]) -> lopt_core::Result<()> {
        let mut machine = self.machine();
        machine.counts.writes.push(content.len());
        machine.write(memory.at + at as Address, content);
        Ok(())
    }

    fn read(&self, memory: &Memory, at: usize, content: &mut [u8]) -> lopt_core::Result<()> {
        let mut machine = self.machine();
        machine.counts.reads.push(content.len());
        machine.read(memory.at + at as Address, content);
        Ok(())
    }

    fn kernel(&self, name: &str) -> lopt_core::Result<String> {
        Ok(name.to_owned())
    }

    fn launch(
        &self,
        kernel: &String,
        [blocks, networks]: [u32; 2],
        threads: u32,
        argument: &impl Argument,
    ) -> lopt_core::Result<()> {
        let mut machine = self.machine();
        machine.counts.launches.push(kernel.clone());
        let mut command = bytes_of(&[1u64]);
        let mut name = [0; 32];
        name[..kernel.len()].copy_from_slice(kernel.as_bytes());
        command.extend_from_slice(&name);
        let forwards = 0;
        for number in [blocks, networks, threads, forwards] {
            u64::from(number).put(&mut command);
        }
        argument.put(&mut command);
        machine.send(&command);
        Ok(())
    }

    /// Copies the values to the device, which is not counted: on a GPU they are there already.
    fn address_of(&self, tensor: &Tensor, dtype: DType) -> lopt_core::Result<Address> {
        assert_eq!(tensor.dtype(), dtype);
        let content = match dtype {
            DType::F16 => content(tensor, f16::to_ne_bytes)?,
            DType::BF16 => content(tensor, bf16::to_ne_bytes)?,
            _ => content(tensor, f32::to_ne_bytes)?,
        };
        let mut machine = self.machine();
        let known = machine.tensors.get(&tensor.id()).copied();
        let at = known.unwrap_or_else(|| machine.allocate(content.len()));
        machine.tensors.insert(tensor.id(), at);
        machine.write(at, &content);
        Ok(at)
    }
}
