use std::sync::Arc;

use lopt_adam::Adam;
use lopt_baselines::{ADAMW_GRID, AdamW, SGD_GRID, Sgd};
use lopt_core::Optimizer;
use lopt_online_scale::OnlineScale;
use serde::{Deserialize, Serialize};

use crate::Contender;

/// A baseline whose learning rate is tuned on each task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// [`Adam`] at a constant learning rate.
    Adam,
    /// [`AdamW`] with warm-up and cosine decay.
    AdamW,
    /// [`Sgd`] with momentum and cosine decay.
    Sgd,
}

impl Baseline {
    /// Every baseline.
    pub const ALL: [Self; 3] = [Self::Adam, Self::AdamW, Self::Sgd];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adam => "adam",
            Self::AdamW => "adamw",
            Self::Sgd => "sgd",
        }
    }

    /// The learning rates that it is tuned over.
    pub fn grid(self) -> Vec<f64> {
        match self {
            Self::Adam => lopt_adam::GRID.into(),
            Self::AdamW => ADAMW_GRID.into(),
            Self::Sgd => SGD_GRID.into(),
        }
    }

    /// The optimizer with this (peak) learning rate.
    pub fn optimizer(self, learning_rate: f64) -> Arc<dyn Optimizer> {
        match self {
            Self::Adam => Arc::new(Adam::new(learning_rate)),
            Self::AdamW => Arc::new(AdamW::new(learning_rate)),
            Self::Sgd => Arc::new(Sgd::new(learning_rate)),
        }
    }
}

/// The baselines that are run as they are, without tuning.
pub fn untuned() -> Vec<Contender> {
    let online = Adam {
        online_scale: Some(OnlineScale::default()),
        ..Adam::new(ONLINE_RATE)
    };
    vec![
        Contender::untuned("adam 1e-3", Adam::new(1e-3)),
        Contender::untuned("adam online", online),
    ]
}

/// The learning rate of Adam with an online scale: of 1e-3 and 1e-2, the better one on
/// [`Suite::Selection`](lopt_tasks::suite::Suite::Selection).
const ONLINE_RATE: f64 = 1e-2;
