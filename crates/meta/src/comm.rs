//! Communication between processes that meta-train together.

use std::ops::Range;

use crate::Result;

/// A group of processes, the ranks 0 to size − 1, that call the same functions in the same order.
/// Each rank owns a part of the tasks and their networks; all have the same θ.
pub trait Comm {
    /// The rank of this process.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// Replaces each entry of `values` by its sum over all ranks. The entries are integers, so the
    /// sums do not depend on the order.
    ///
    /// # Errors
    /// Returns an error if another rank cannot be reached.
    fn sum(&self, values: &mut [i64]) -> Result<()>;

    /// Returns the bytes of all ranks, in rank order, on rank 0, and an empty list on the others.
    ///
    /// # Errors
    /// Returns an error if another rank cannot be reached.
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// Returns the bytes of rank 0 on all ranks.
    ///
    /// # Errors
    /// Returns an error if another rank cannot be reached.
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
}

/// Returns the contiguous range of the tasks 0 to `tasks` − 1 that this rank owns. The ranges of
/// two ranks differ in length by at most one.
pub fn share(comm: &dyn Comm, tasks: u64) -> Range<u64> {
    let (rank, size) = (comm.rank() as u128, comm.size() as u128);
    let bound = |rank: u128| (u128::from(tasks) * rank / size) as u64;
    bound(rank)..bound(rank + 1)
}

/// A single process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Comm for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [i64]) -> Result<()> {
        Ok(())
    }

    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        Ok(vec![bytes])
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Of(usize, usize);

    impl Comm for Of {
        fn rank(&self) -> usize {
            self.0
        }
        fn size(&self) -> usize {
            self.1
        }
        fn sum(&self, _: &mut [i64]) -> Result<()> {
            unreachable!()
        }
        fn gather(&self, _: Vec<u8>) -> Result<Vec<Vec<u8>>> {
            unreachable!()
        }
        fn broadcast(&self, _: Vec<u8>) -> Result<Vec<u8>> {
            unreachable!()
        }
    }

    #[test]
    fn every_task_has_one_owner() {
        for size in 1..=9 {
            for tasks in 0..20 {
                let shares = (0..size).map(|rank| share(&Of(rank, size), tasks));
                let all: Vec<u64> = shares.flatten().collect();
                assert_eq!(all, (0..tasks).collect::<Vec<_>>());
            }
        }
        assert_eq!(share(&Of(3, 4), 8), 6..8);
    }
}
