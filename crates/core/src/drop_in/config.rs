use std::{fmt, sync::Arc};

use crate::{Error, LossScale, Result, Schedule, Workers};

/// What a [`DropIn`](crate::DropIn) does with a gradient that contains NaN, ±inf or an entry with a
/// magnitude above 1e18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NonFinite {
    /// Return an error that names the parameter; nothing changes.
    #[default]
    Refuse,
    /// Skip the step and count it in [`DropIn::skipped_steps`](crate::DropIn::skipped_steps).
    Skip,
}

/// A limit on gradients before a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// Multiplies all gradients by min(1, `0` / n), where n is the Euclidean norm of all of them.
    GlobalNorm(f64),
    /// Limits each entry to [−`0`, `0`].
    Value(f64),
}

impl Clip {
    pub(super) fn limit(self) -> f64 {
        match self {
            Clip::GlobalNorm(limit) | Clip::Value(limit) => limit,
        }
    }
}

/// Whether a parameter belongs to a group, by its name and shape.
type Members = Arc<dyn Fn(&str, &[usize]) -> bool + Send + Sync>;

/// Parameters that are treated differently.
///
/// ```
/// use lopt_core::Group;
///
/// let embeddings = Group::new("embeddings", |name, _| name.starts_with("embed")).factor(0.1);
/// // Biases and scales are usually not decayed.
/// let vectors = Group::new("vectors", |_, shape| shape.len() <= 1).weight_decay(0.0);
/// let backbone = Group::new("backbone", |name, _| name.starts_with("resnet.")).frozen();
/// # let _ = [embeddings, vectors, backbone];
/// ```
#[derive(Clone)]
pub struct Group {
    pub(super) name: String,
    pub(super) members: Members,
    pub(super) factor: f64,
    pub(super) weight_decay: Option<f64>,
    pub(super) frozen: bool,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", &self.name)
            .field("factor", &self.factor)
            .field("weight_decay", &self.weight_decay)
            .field("frozen", &self.frozen)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Creates the group of the parameters for which `members`, given the name and the shape, returns
    /// `true`. Names are those of [`DropIn::from_var_map`](crate::DropIn::from_var_map) and
    /// [`DropIn::with_names`](crate::DropIn::with_names); in an optimizer created with `new` the names
    /// are numbers.
    pub fn new(
        name: impl Into<String>,
        members: impl Fn(&str, &[usize]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            members: Arc::new(members),
            factor: 1.0,
            weight_decay: None,
            frozen: false,
        }
    }

    /// Multiplies the steps of these parameters by a factor, as if it scaled their learning rate.
    ///
    /// An online scale does not see this factor: it is tuned as if the factor were 1, which also affects
    /// the other parameters. So do not pause parameters by a factor of 0; use [`Group::frozen`].
    pub fn factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// Sets λ for these parameters, in place of [`DropInConfig::weight_decay`].
    pub fn weight_decay(self, lambda: f64) -> Self {
        Self {
            weight_decay: Some(lambda),
            ..self
        }
    }

    /// Never updates these parameters. The optimizer has no state for them.
    pub fn frozen(self) -> Self {
        Self {
            frozen: true,
            ..self
        }
    }
}

/// The configuration of a [`DropIn`](crate::DropIn).
///
/// A step t takes the mean of [`accumulate`](Self::accumulate) gradients, clips it, decays the
/// parameters to (1 − ηₜ·λ)·φ, and takes the optimizer's step with the learning rate
/// ηₜ = η · [`schedule`](Self::schedule)(t) · (the factor of the parameter's group).
///
/// An online scale multiplies the optimizer's update, after ηₜ. When the scale changes, the sum of all
/// updates so far is scaled anew, so parameters can move a little even if ηₜ is 0.
#[derive(Clone, Debug)]
pub struct DropInConfig<O> {
    /// The optimizer, with its learning rate η. That of learned optimizers is a factor, by default 1.
    pub optimizer: O,
    /// What to do with a gradient that is not finite. Default: refuse the step.
    pub non_finite: NonFinite,
    /// The factor of the learning rate over the steps. Default: 1.
    pub schedule: Schedule,
    /// A limit on gradients. Default: none.
    pub clip: Option<Clip>,
    /// λ of the decoupled weight decay. It is multiplied by ηₜ: with a learned optimizer, whose η is
    /// 1, usual values are 1e-5 to 1e-3. Default: 0.
    pub weight_decay: f64,
    /// Parameters that are treated differently. A parameter belongs to the first group that it is a
    /// member of. Default: none.
    pub groups: Vec<Group>,
    /// The number of calls of `step` or `backward_step` whose gradients make one step. Default: 1.
    pub accumulate: u64,
    /// A factor of the loss for gradients in f16. Default: none.
    pub loss_scale: Option<LossScale>,
    /// The threads of the CPU kernels of STAR and the blackbox, which update several tensors at the same
    /// time, and the parts of a tensor with a million or more elements. Steps of fewer than 65,536
    /// elements stay on the calling thread, and those of Adam, which memory bandwidth limits. Results do
    /// not depend on the number of threads. Default: [`Workers::ONE`].
    pub workers: Workers,
}

impl<O: Default> Default for DropInConfig<O> {
    fn default() -> Self {
        Self::new(O::default())
    }
}

impl<O> DropInConfig<O> {
    /// The default configuration with this optimizer.
    pub fn new(optimizer: O) -> Self {
        Self {
            optimizer,
            non_finite: NonFinite::default(),
            schedule: Schedule::default(),
            clip: None,
            weight_decay: 0.0,
            groups: vec![],
            accumulate: 1,
            loss_scale: None,
            workers: Workers::ONE,
        }
    }

    /// The index of the group that a parameter belongs to.
    pub(super) fn group_of(&self, name: &str, shape: &[usize]) -> Option<usize> {
        let mut groups = self.groups.iter();
        groups.position(|group| (group.members)(name, shape))
    }

    pub(super) fn check(&self) -> Result<()> {
        for (index, Group { name, .. }) in self.groups.iter().enumerate() {
            if self.groups[..index].iter().any(|other| other.name == *name) {
                return Err(Error::Setting(format!(
                    "two groups are named `{name}`; give each a name of its own"
                )));
            }
        }
        let require = |ok: bool, name: &str, value: f64, must: &str| match ok {
            true => Ok(()),
            false => Err(Error::Setting(format!(
                "{name} is {value}; it must be {must}"
            ))),
        };
        let at_least_0 = |x: f64| x >= 0.0 && x.is_finite();
        let positive = |x: f64| x > 0.0 && x.is_finite();
        if let Some(limit) = self.clip.map(Clip::limit) {
            require(positive(limit), "`clip`", limit, "positive and finite")?;
        }
        let decays = self.groups.iter().filter_map(|group| group.weight_decay);
        for lambda in decays.chain([self.weight_decay]) {
            let must = "finite and at least 0";
            require(at_least_0(lambda), "a weight decay", lambda, must)?;
        }
        for Group { name, factor, .. } in &self.groups {
            let what = format!("the factor of the group `{name}`");
            require(at_least_0(*factor), &what, *factor, "finite and at least 0")?;
        }
        let count = self.accumulate;
        require(count >= 1, "`accumulate`", count as f64, "at least 1")?;
        self.schedule.check()?;
        self.loss_scale.as_ref().map_or(Ok(()), LossScale::check)
    }
}
