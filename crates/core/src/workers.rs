use std::{num::NonZeroUsize, sync::Mutex, thread};

/// A fixed number of threads that process independent jobs.
///
/// Results are returned in the order of the jobs, so they do not depend on the number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Workers {
    threads: NonZeroUsize,
}

impl Workers {
    /// The calling thread alone.
    pub const ONE: Self = Self {
        threads: NonZeroUsize::MIN,
    };

    /// Uses this many threads, or one for each processor if `None`.
    pub fn new(threads: Option<NonZeroUsize>) -> Self {
        let all = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            threads: threads.unwrap_or_else(all),
        }
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.get()
    }

    /// Runs `job` for each of the numbers below `count`.
    pub fn each(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        self.map(0..count, job);
    }

    /// Applies `job` to every item and returns the results in the order of the items.
    pub fn map<T: Send, R: Send>(
        &self,
        items: impl IntoIterator<Item = T>,
        job: impl Fn(T) -> R + Sync,
    ) -> Vec<R> {
        let items: Vec<(usize, T)> = items.into_iter().enumerate().collect();
        let threads = self.threads().min(items.len());
        if threads <= 1 {
            return items.into_iter().map(|(_, item)| job(item)).collect();
        }
        let queue = Mutex::new(items.into_iter());
        let next = || {
            queue
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .next()
        };
        let mut results = thread::scope(|scope| {
            let work = || {
                let mut done = vec![];
                while let Some((index, item)) = next() {
                    done.push((index, job(item)));
                }
                done
            };
            // The calling thread is one of them.
            let handles: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for handle in handles {
                match handle.join() {
                    Ok(done) => all.extend(done),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            all
        });
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_their_order() {
        for threads in [1, 2, 8] {
            let workers = Workers::new(NonZeroUsize::new(threads));
            let squares = workers.map(0..100u64, |x| x * x);
            assert_eq!(squares, (0..100).map(|x| x * x).collect::<Vec<_>>());
            assert!(workers.map(Vec::<u64>::new(), |x| x).is_empty());
        }
    }
}
