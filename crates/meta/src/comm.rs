//! Several processes that meta-train together.

use std::ops::Range;

use crate::Result;

/// A group of processes, the ranks 0 to size − 1, that call the same functions in the same
/// order. Each owns a part of the tasks and their networks; all hold the same θ.
pub trait Comm {
    /// Which of them this is.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replaces `values` by their sums over all ranks, entry by entry. Whole numbers, so that
    /// no order matters.
    ///
    /// # Errors
    /// If a rank is gone.
    fn sum(&self, values: &mut [i64]) -> Result<()>;

    /// What each rank has given, in their order, on rank 0; nothing on the others.
    ///
    /// # Errors
    /// If a rank is gone.
    fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>>;

    /// What rank 0 has given.
    ///
    /// # Errors
    /// If a rank is gone.
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;
}

/// The tasks among 0 to `tasks` that this rank owns: neighbours, about as many for each.
pub fn share(comm: &dyn Comm, tasks: u64) -> Range<u64> {
    let (rank, size) = (comm.rank() as u128, comm.size() as u128);
    let bound = |rank: u128| (u128::from(tasks) * rank / size) as u64;
    bound(rank)..bound(rank + 1)
}

/// One process by itself.
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
