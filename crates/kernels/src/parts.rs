//! Large tensors in parts, which several threads process.
//!
//! The parts depend on the tensor alone, and their sums are added in order: results are the same for any
//! number of threads.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Runs a job for each of the numbers below a count, on the threads that its owner has.
pub type Run<'a> = &'a (dyn Fn(usize, &(dyn Fn(usize) + Sync)) + Sync);

/// A [`Run`] on the calling thread.
pub fn one_thread(count: usize, job: &(dyn Fn(usize) + Sync)) {
    (0..count).for_each(job);
}

/// Tensors of fewer elements are not divided: waking threads would take longer than they save.
const LARGE: usize = 1 << 20;

/// The number of parts, several times that of usual threads, so that they end at about the same time.
const PARTS: usize = 16;

/// Whether a tensor is divided.
pub(crate) fn is_large(elements: usize) -> bool {
    elements >= LARGE
}

/// Divides the numbers below `count` into ranges of nearly equal length.
pub(crate) fn ranges(count: usize) -> Vec<Range<usize>> {
    let parts = PARTS.min(count);
    let end = |part: usize| part * count / parts;
    (0..parts).map(|part| end(part)..end(part + 1)).collect()
}

/// Divides the numbers below `count` into ranges whose lengths are multiples of `unit`, but for the last
/// one.
pub(crate) fn ranges_of(unit: usize, count: usize) -> Vec<Range<usize>> {
    let ranges = ranges(count.div_ceil(unit)).into_iter();
    let scaled = ranges.map(|range| range.start * unit..count.min(range.end * unit));
    scaled.collect()
}

/// Divides a slice at the ends of ranges that follow one another.
pub(crate) fn split<'a>(mut slice: &'a mut [f32], ranges: &[Range<usize>]) -> Vec<&'a mut [f32]> {
    let part = |range: &Range<usize>| {
        let (part, rest) = std::mem::take(&mut slice).split_at_mut(range.len());
        slice = rest;
        part
    };
    ranges.iter().map(part).collect()
}

/// Applies `job` to every item, and returns the results in the order of the items.
pub(crate) fn map<T: Send, R: Send>(
    run: Run,
    items: impl IntoIterator<Item = T>,
    job: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let slot = |item| Mutex::new((Some(item), None));
    let slots: Vec<Mutex<(Option<T>, Option<R>)>> = items.into_iter().map(slot).collect();
    run(slots.len(), &|index| {
        // Nobody else has the slot, unless a job panicked, and that is passed on.
        let mut slot = slots[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(item) = slot.0.take() {
            slot.1 = Some(job(item));
        }
    });
    let results = slots.into_iter().filter_map(|slot| {
        let (_, result) = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        result
    });
    results.collect()
}

/// Adds sums in order.
pub(crate) fn total<const N: usize>(parts: Vec<[f64; N]>) -> [f64; N] {
    parts.into_iter().fold([0.0; N], |mut totals, part| {
        for (total, part) in totals.iter_mut().zip(part) {
            *total += part;
        }
        totals
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once() {
        for (unit, count) in [
            (1, 0),
            (1, 5),
            (1, 16),
            (1, 1000),
            (8, 1000),
            (8192, 1 << 20),
        ] {
            let ranges = ranges_of(unit, count);
            let starts: Vec<_> = ranges.iter().map(|range| range.start).collect();
            let ends: Vec<_> = ranges.iter().map(|range| range.end).collect();
            assert_eq!(ends.last().copied().unwrap_or(0), count);
            assert!(
                starts
                    .iter()
                    .skip(1)
                    .eq(ends.iter().take(ends.len().saturating_sub(1)))
            );
            assert!(starts.iter().all(|start| start % unit == 0));
            let mut numbers: Vec<f32> = (0..count).map(|x| x as f32).collect();
            let parts = split(&mut numbers, &ranges);
            assert!(
                parts
                    .iter()
                    .zip(starts)
                    .all(|(part, start)| part[0] == start as f32)
            );
        }
    }

    #[test]
    fn results_keep_their_order() {
        assert_eq!(
            map(&one_thread, 0..9, |x| x * x),
            (0..9).map(|x| x * x).collect::<Vec<_>>()
        );
        assert_eq!(total(vec![[1.0, 2.0], [3.0, 4.0]]), [4.0, 6.0]);
    }
}
