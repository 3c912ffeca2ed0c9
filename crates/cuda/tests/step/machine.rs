//! The kernels compiled for the CPU: memory, launches, and a process that runs them.

use std::{
    fs, io,
    path::PathBuf,
    process::{Command, Output},
    sync::OnceLock,
};

use lopt_cuda::{
    bytes::Bytes,
    layout::{Address, Arguments},
    source,
};
use tempfile::TempDir;

/// Where the memory begins; free in any process.
const BASE: Address = 0x10_0000_0000;
/// Between two allocations, to notice what is written outside of them.
const GUARD: [u8; 64] = [0xA5; 64];

/// The folder with the program, kept until the tests end.
struct Program {
    _folder: TempDir,
    path: PathBuf,
}

/// Compiles the program once.
fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("harness");
        fs::write(folder.path().join("source.cu"), source()).unwrap();
        let main = folder.path().join("harness.cpp");
        fs::write(&main, include_str!("harness.cpp")).unwrap();
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut command = Command::new(&compiler);
        command.args([
            "-O2",
            "-std=c++17",
            "-ffp-contract=off",
            "-fno-strict-aliasing",
        ]);
        command.args(["-Wall", "-Wextra", "-Werror"]);
        command.arg(main).arg("-o").arg(&path);
        let output = command.output();
        let output = output.unwrap_or_else(|error| {
            panic!(
                "cannot run the C++ compiler {compiler:?} ({error}): these tests compile the CUDA \
                 kernels for the CPU. Install one beside the C compiler, or set CXX."
            )
        });
        succeeded(&output, "the C++ compiler");
        Program {
            _folder: folder,
            path,
        }
    })
}

fn succeeded(output: &Output, what: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {errors}");
}

/// The device's memory, and the commands that a process will run on it.
pub struct Machine {
    memory: Vec<u8>,
    /// The ranges of the allocations.
    allocations: Vec<(usize, usize)>,
    commands: Vec<u8>,
    printed: usize,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            memory: GUARD.to_vec(),
            allocations: vec![],
            commands: vec![],
            printed: 0,
        }
    }

    /// Allocates memory with this content. The address is a multiple of 256, plus `skew`.
    pub fn put(&mut self, content: &[u8], skew: usize) -> Address {
        let at = self.memory.len().next_multiple_of(256) + skew;
        self.memory.resize(at, GUARD[0]);
        self.memory.extend_from_slice(content);
        self.memory.extend_from_slice(&GUARD);
        self.allocations.push((at, at + content.len()));
        BASE + at as Address
    }

    /// Writes to allocated memory.
    pub fn write(&mut self, to: Address, content: &[u8]) {
        let at = (to - BASE) as usize;
        self.memory[at..at + content.len()].copy_from_slice(content);
    }

    /// Launches a kernel.
    pub fn launch(&mut self, name: &str, blocks: u32, backwards: bool, arguments: &Arguments) {
        1u64.put(&mut self.commands);
        let mut bytes = [0; 32];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        self.commands.extend_from_slice(&bytes);
        u64::from(blocks).put(&mut self.commands);
        u64::from(backwards).put(&mut self.commands);
        arguments.put(&mut self.commands);
    }

    /// Copies the memory at this time to the result of [`Machine::run`].
    pub fn print(&mut self) {
        2u64.put(&mut self.commands);
        0u64.put(&mut self.commands);
        (self.memory.len() as u64).put(&mut self.commands);
        self.printed += 1;
    }

    /// Runs the commands, and returns the memory at each [`Machine::print`].
    pub fn run(self) -> Vec<Memory> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        let size = self.memory.len();
        let mut input = vec![];
        BASE.put(&mut input);
        (size as u64).put(&mut input);
        input.extend_from_slice(&self.memory);
        input.extend_from_slice(&self.commands);
        fs::write(&path, input).unwrap();
        let output: io::Result<Output> = Command::new(&program().path).arg(&path).output();
        let output = output.unwrap();
        succeeded(&output, "the kernels");
        assert_eq!(output.stdout.len(), size * self.printed);
        let memories = output.stdout.chunks_exact(size);
        let memories: Vec<Memory> = memories.map(|bytes| Memory(bytes.to_vec())).collect();
        for Memory(bytes) in &memories {
            let mut end = 0;
            for &(start, next) in &self.allocations {
                let between = bytes[end..start].iter();
                let untouched = between.clone().all(|byte| *byte == GUARD[0]);
                assert!(untouched, "a kernel wrote between {end} and {start}");
                end = next;
            }
        }
        memories
    }
}

/// The memory at some time.
#[derive(PartialEq)]
pub struct Memory(Vec<u8>);

impl Memory {
    /// Returns some bytes; none may have any address.
    fn bytes(&self, at: Address, count: usize) -> &[u8] {
        if count == 0 {
            return &[];
        }
        let at = (at - BASE) as usize;
        &self.0[at..at + count]
    }

    pub fn u32(&self, at: Address) -> u32 {
        u32::from_ne_bytes(self.bytes(at, 4).try_into().unwrap())
    }

    pub fn u64(&self, at: Address) -> u64 {
        u64::from_ne_bytes(self.bytes(at, 8).try_into().unwrap())
    }

    pub fn u16s(&self, at: Address, count: usize) -> Vec<u16> {
        let bytes = self.bytes(at, 2 * count).as_chunks::<2>().0;
        bytes
            .iter()
            .map(|bytes| u16::from_ne_bytes(*bytes))
            .collect()
    }

    pub fn floats(&self, at: Address, count: usize) -> Vec<f32> {
        let bytes = self.bytes(at, 4 * count).as_chunks::<4>().0;
        bytes
            .iter()
            .map(|bytes| f32::from_ne_bytes(*bytes))
            .collect()
    }
}
