//! The optimizer as the CUDA kernels know it.

use lopt_cuda::{Hidden, PerParameter};
use lopt_cuda_backend::Kernels;

use crate::{
    Rule,
    accumulators::factored_dims,
    fused::{no_kernel, too_many_outputs},
};

/// Returns the kernels of a rule with θ, or why there are none.
pub fn kernels(rule: &impl Rule, sizes: &[usize], theta: &[f32]) -> Result<Kernels, String> {
    let timed = rule.timed_formula();
    let timed = timed.ok_or("its rule has no formula of every step for the kernels")?;
    let hidden = match *sizes {
        [_, first, second, _] if first == second => Hidden::of(first),
        _ => None,
    };
    let hidden = hidden.ok_or_else(|| no_kernel(rule.hidden()))?;
    let heads = rule.heads();
    if lopt_cuda::theta::decoded(theta, hidden, heads).is_none() {
        return Err(too_many_outputs(heads));
    }
    let rule_of_kernels = PerParameter {
        hidden,
        nominal: timed.nominal,
        formula: timed.formula,
        time_limit: timed.time_limit,
        grows: timed.grows,
    };
    Ok(Kernels {
        rule: lopt_cuda::Rule::PerParameter(rule_of_kernels),
        scale: rule.online_scale().cloned(),
        heads,
        theta: theta.to_vec(),
        factored_dims,
    })
}
