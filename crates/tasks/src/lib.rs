//! Tasks and task families: MLPs on image data, and the suites built of them.
