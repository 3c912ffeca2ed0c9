//! The processes started together by `mpirun`.

use std::{env, rc::Rc, time::Instant};

use anyhow::Result;
use lopt_meta::{Alone, Comm};

/// Environment variables with the number of processes, set by Open MPI's `mpirun`, by launchers
/// that use PMI, and by `srun`.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// The number of processes started by the launcher.
fn launched() -> usize {
    let told = |name: &&str| env::var(name).ok()?.trim().parse().ok();
    SIZES.iter().find_map(told).unwrap_or(1)
}

/// Returns an error for several processes, which would all compute the same and write the same
/// files.
pub fn one_process() -> Result<()> {
    let size = launched();
    anyhow::ensure!(
        size <= 1,
        "started as {size} processes, but only meta-train can share its work among them; start \
         this command as one process"
    );
    Ok(())
}

/// The communicator of this process.
#[cfg(feature = "mpi")]
pub fn comm() -> Result<Rc<dyn Comm>> {
    let launched = launched();
    if launched <= 1 {
        return Ok(Rc::new(Alone));
    }
    let ranks = by_mpi::start()?;
    let size = ranks.size();
    anyhow::ensure!(
        size == launched,
        "started as {launched} processes, but MPI sees {size}: the launcher does not belong to \
         this MPI; with srun pass --mpi=pmix, or use mpirun"
    );
    Ok(ranks)
}

/// The communicator of this process.
#[cfg(not(feature = "mpi"))]
pub fn comm() -> Result<Rc<dyn Comm>> {
    let launched = launched();
    anyhow::ensure!(
        launched <= 1,
        "started as {launched} processes, but this lopt was built without MPI; build it with \
         --features mpi"
    );
    Ok(Rc::new(Alone))
}

#[derive(clap::Args)]
pub struct LatencyArgs {
    /// Bytes that each rank contributes.
    #[arg(long)]
    bytes: usize,
}

/// The number of timed sums.
const REPEATS: usize = 1001;

/// Prints the median time of a sum over all ranks, in seconds.
pub fn latency(args: &LatencyArgs) -> Result<bool> {
    let comm = comm()?;
    let mut values = vec![1i64; args.bytes / size_of::<i64>()];
    let mut seconds = vec![];
    for _ in 0..REPEATS {
        let start = Instant::now();
        comm.sum(&mut values)?;
        seconds.push(start.elapsed().as_secs_f64());
        values.fill(1);
    }
    seconds.sort_by(f64::total_cmp);
    if comm.rank() == 0 {
        println!("{:e}", seconds[REPEATS / 2]);
    }
    Ok(true)
}

/// Finalizes MPI. After an error (`good` is false), aborts all other ranks, which would wait for
/// this one.
pub fn finish(good: bool) {
    #[cfg(feature = "mpi")]
    by_mpi::finish(good);
    #[cfg(not(feature = "mpi"))]
    let _ = good;
}

#[cfg(feature = "mpi")]
mod by_mpi {
    use std::{cell::RefCell, rc::Rc};

    use anyhow::{Context, Result};
    use lopt_meta::{Comm, Error};
    use mpi::{
        Threading, collective::SystemOperation, environment::Universe,
        topology::SimpleCommunicator, traits::*,
    };

    /// The ranks of `MPI_COMM_WORLD`. If one of them dies, MPI ends the others.
    pub struct Ranks {
        world: SimpleCommunicator,
        /// Dropping it finalizes MPI.
        _universe: Universe,
    }

    thread_local! {
        /// Kept until [`finish`], since dropping the last one waits for the other ranks.
        static STARTED: RefCell<Option<Rc<Ranks>>> = const { RefCell::new(None) };
    }

    pub fn start() -> Result<Rc<Ranks>> {
        // Unwinding would finalize MPI, and the other ranks would wait for this one for ever.
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            print(info);
            std::process::abort();
        }));
        let started = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = started.context("MPI is already initialized")?;
        let ranks = Rc::new(Ranks {
            world: universe.world(),
            _universe: universe,
        });
        STARTED.set(Some(ranks.clone()));
        Ok(ranks)
    }

    pub fn finish(good: bool) {
        if let Some(ranks) = STARTED.take()
            && !good
        {
            ranks.world.abort(1);
        }
    }

    /// Maximum size of a message in bytes; longer data are sent in pieces. MPI counts are 32-bit.
    const PIECE: usize = 1 << 30;

    impl Comm for Ranks {
        fn rank(&self) -> usize {
            self.world.rank() as usize
        }

        fn size(&self) -> usize {
            self.world.size() as usize
        }

        fn sum(&self, values: &mut [i64]) -> Result<(), Error> {
            let own = values.to_vec();
            self.world
                .all_reduce_into(&own[..], values, SystemOperation::sum());
            Ok(())
        }

        fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>, Error> {
            if self.rank() > 0 {
                let first = self.world.process_at_rank(0);
                first.send(&(bytes.len() as u64));
                bytes.chunks(PIECE).for_each(|piece| first.send(piece));
                return Ok(vec![]);
            }
            let mut all = vec![bytes];
            for rank in 1..self.world.size() {
                let other = self.world.process_at_rank(rank);
                let length: u64 = other.receive().0;
                let mut bytes = vec![0; length as usize];
                for piece in bytes.chunks_mut(PIECE) {
                    other.receive_into(piece);
                }
                all.push(bytes);
            }
            Ok(all)
        }

        fn broadcast(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
            let first = self.world.process_at_rank(0);
            let mut length = [bytes.len() as u64];
            first.broadcast_into(&mut length[..]);
            bytes.resize(length[0] as usize, 0);
            for piece in bytes.chunks_mut(PIECE) {
                first.broadcast_into(piece);
            }
            Ok(bytes)
        }
    }
}
