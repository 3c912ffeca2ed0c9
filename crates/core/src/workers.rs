use std::{
    collections::BTreeMap,
    iter,
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rayon::ThreadPool;

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

    /// Runs `job` for each number from 0 to `count` − 1. The threads are started once and wait between
    /// calls, so jobs may be short; the calling thread is one of them.
    pub fn each(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed))
                .take_while(|index| *index < count)
                .for_each(job);
        };
        let others = self.threads().min(count).saturating_sub(1);
        match pool(others) {
            Some(pool) => pool.in_place_scope(|scope| {
                for _ in 0..others {
                    scope.spawn(|_| work());
                }
                work();
            }),
            None => work(),
        }
    }

    /// [`Workers::each`] for jobs that may fail; returns the error of the lowest number.
    ///
    /// # Errors
    /// Returns an error of `job`.
    pub fn try_each<E: Send>(
        &self,
        count: usize,
        job: impl Fn(usize) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let failed = Mutex::new(None);
        self.each(count, &|index| {
            if let Err(error) = job(index) {
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failed = Some((index, error));
                }
            }
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        failed.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Applies `job` to every item and returns the results in the order of the items. The threads are
    /// started anew for each call: on the waiting threads of [`Workers::each`], candle would divide its
    /// operations within `job` among those threads too.
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

/// The waiting threads of this number that all [`Workers`] of the process share; `None` for no thread, or
/// if the system refuses to start them.
fn pool(threads: usize) -> Option<&'static ThreadPool> {
    static POOLS: Mutex<BTreeMap<usize, Option<&'static ThreadPool>>> = Mutex::new(BTreeMap::new());
    if threads == 0 {
        return None;
    }
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || {
        let named = |index| format!("lopt worker {index}");
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(named);
        let pool = pool.build().ok()?;
        Some(&*Box::leak(Box::new(pool)))
    };
    *pools.entry(threads).or_insert_with(start)
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

    #[test]
    fn each_number_is_taken_once() {
        for threads in [1, 2, 8] {
            let workers = Workers::new(NonZeroUsize::new(threads));
            for count in [0, 1, 7, 100] {
                let times: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                workers.each(count, &|index| {
                    times[index].fetch_add(1, Ordering::Relaxed);
                });
                assert!(times.iter().all(|times| times.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn the_error_of_the_lowest_number_is_returned() {
        for threads in [1, 2, 8] {
            let workers = Workers::new(NonZeroUsize::new(threads));
            let odd = |index| if index % 2 == 1 { Err(index) } else { Ok(()) };
            assert_eq!(workers.try_each(100, odd), Err(1));
            assert_eq!(workers.try_each(1, odd), Ok(()));
        }
    }

    #[test]
    fn a_panic_is_passed_on() {
        let workers = Workers::new(NonZeroUsize::new(3));
        let panics = || workers.each(9, &|index| assert_ne!(index, 5));
        assert!(std::panic::catch_unwind(panics).is_err());
        workers.each(9, &|_| {});
    }
}
