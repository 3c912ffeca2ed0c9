//! Meta-training: truncated unrolls, gradient estimators, outer loop, run directories.
