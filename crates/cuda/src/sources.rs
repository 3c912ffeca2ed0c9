//! The kernels' source text.

/// The headers, each after those that it includes, then the kernels.
const FILES: [&str; 18] = [
    include_str!("../kernels/device.cuh"),
    include_str!("../kernels/math.cuh"),
    include_str!("../kernels/layout.cuh"),
    include_str!("../kernels/reduce.cuh"),
    include_str!("../kernels/elements.cuh"),
    include_str!("../kernels/scale.cuh"),
    include_str!("../kernels/gradients.cuh"),
    include_str!("../kernels/lines.cuh"),
    include_str!("../kernels/features.cuh"),
    include_str!("../kernels/accumulate.cuh"),
    include_str!("../kernels/finish.cuh"),
    include_str!("../kernels/network.cuh"),
    include_str!("../kernels/apply.cuh"),
    include_str!("../kernels/adam.cuh"),
    include_str!("../kernels/activation.cuh"),
    include_str!("../kernels/product.cuh"),
    include_str!("../kernels/fleet.cuh"),
    include_str!("../kernels/kernels.cu"),
];

/// The compiler's options that the arithmetic needs: a product and a sum are fused only where the
/// source says so, and square roots and quotients are correctly rounded, which is the default.
pub const OPTIONS: [&str; 2] = ["-std=c++17", "-fmad=false"];

/// The compute capability of an A100, the least that the kernels are compiled for. The driver
/// translates the PTX for the GPU at hand, and keeps the result on disk.
pub const ARCHITECTURE: &str = "compute_80";

/// Returns all headers and kernels as one file, for a compiler without access to the others.
pub fn source() -> String {
    let lines = FILES.iter().flat_map(|text| text.lines());
    let ours = |line: &&str| !line.starts_with("#include \"") && !line.starts_with("#pragma once");
    lines.filter(ours).flat_map(|line| [line, "\n"]).collect()
}
