//! Evaluation: protocols, tuned baselines, statistics, reports.
