//! The kernels compiled for the CPU: memory, launches, and a process that runs them.

use std::{fs, process::Command, sync::OnceLock};

use lopt_cuda::{
    Launch,
    bytes::{Bytes, bytes_of},
    layout::{Address, Arguments},
};

use crate::program::Program;

/// Where the memory begins; free in any process.
const BASE: Address = 0x10_0000_0000;
/// Between two allocations, to notice what is written outside of them.
const GUARD: [u8; 64] = [0xA5; 64];

/// How the threads of a block run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One after another, from the first to the last.
    Forwards,
    /// From the last to the first, and blocks too.
    Backwards,
    /// At the same time, watched by the compiler's thread sanitizer.
    Concurrent,
}

/// Compiles each program once.
fn program(threads: Threads) -> Result<&'static Program, &'static String> {
    static LOOPS: OnceLock<Result<Program, String>> = OnceLock::new();
    static CONCURRENT: OnceLock<Result<Program, String>> = OnceLock::new();
    match threads {
        Threads::Concurrent => CONCURRENT.get_or_init(Program::watched),
        _ => LOOPS.get_or_init(|| Program::compile(&["-O2"])),
    }
    .as_ref()
}

/// Whether threads can be watched here; if not, says why.
pub fn can_watch_threads() -> bool {
    let program = program(Threads::Concurrent);
    program
        .inspect_err(|why| println!("skipped: {why}"))
        .is_ok()
}

/// The device's memory, and the commands that a process will run on it.
pub struct Machine {
    memory: Vec<u8>,
    /// The ranges of the allocations.
    allocations: Vec<(usize, usize)>,
    commands: Vec<u8>,
    printed: usize,
    threads: Threads,
}

impl Machine {
    pub fn new(threads: Threads) -> Self {
        Self {
            threads,
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
    pub fn launch(&mut self, launch: &Launch, arguments: &Arguments) {
        1u64.put(&mut self.commands);
        let mut bytes = [0; 32];
        bytes[..launch.kernel.len()].copy_from_slice(launch.kernel.as_bytes());
        self.commands.extend_from_slice(&bytes);
        let networks = 1;
        let backwards = u64::from(self.threads == Threads::Backwards);
        let grid: [u64; 3] = [launch.blocks.into(), networks, launch.threads.into()];
        self.commands.extend(bytes_of(&grid));
        backwards.put(&mut self.commands);
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
        (size as u64).put(&mut input);
        input.extend_from_slice(&self.memory);
        input.extend_from_slice(&self.commands);
        fs::write(&path, input).unwrap();
        let program = program(self.threads).unwrap_or_else(|why| panic!("{why}"));
        // After a data race, threads may wait for one another for ever.
        let mut command = Command::new(&program.path);
        command.arg(&path).env("TSAN_OPTIONS", "halt_on_error=1");
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{errors}");
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
