// The memory that host and kernels share. `src/layout.rs` has the same structures.
#pragma once
#include "device.cuh"

namespace lopt {

// Threads of a block, except of the kernel of lines.
constexpr u32 THREADS = 256;
// Threads of a block of the kernel of lines.
constexpr u32 LINE_THREADS = 512;
// The largest number of elements of a tile.
constexpr u32 TILE = 4096;
// Elements of one row that a thread takes together, but for wide MLPs.
constexpr u32 GROUP = 4;
// Lines of one block that folds them.
constexpr u32 FOLD_LINES = 256;
// Tensors of one launch.
constexpr u32 CAPACITY = 224;
// The largest number of learners of an online scale.
constexpr u32 LEARNERS = 7;
// The largest width of the hidden layers.
constexpr u32 WIDEST = 32;
// Features of a parameter, of these the ones that differ from element to element, and features of
// the step.
constexpr u32 PER_PARAMETER = 28, ELEMENT = 16, PER_STEP = 11;
// Outputs of the MLP: d, m_b, m_g.
constexpr u32 HEADS = 3;
// Sums of a unit: squares of the element features; for rank < 2 also squares of the three second
// moments, and their inverses.
constexpr u32 SUMS = ELEMENT + 6;

// Layers of a network of a fleet.
constexpr u32 LAYERS = 32;
// Threads of a block of a fleet's products.
constexpr u32 PRODUCT_THREADS = 128;
// Rows and columns of a tile of a product.
constexpr u32 SIDE = 32;

// Types of parameters and gradients.
enum Type : u32 { F32, F16, BF16 };

// How tiles divide a row of a tensor [outer, x, middle, y, inner].
enum Cut : u32 {
    // A tile has whole segments [y, inner].
    WHOLE_SEGMENTS,
    // A tile has some of the y of one segment.
    WITHIN_SEGMENT,
    // A tile has a part of one y.
    WITHIN_INNER,
};

// The lines of one kind of a tensor of rank ≥ 2: its indices without x, or those without y. Their
// moments are the tensor's row or column moments.
struct Side {
    // [3, lines]
    float *moments;
    // Sums of g² over the part of a line in one tile, [parts, lines].
    float *parts;
    // r(v_row/(mean v_row + 1e-9)) or r(v_col), [3, lines], with r(x) = 1/√max(x, 1e-9).
    float *factors;
    // Contributions to the first layer, [H, lines].
    float *folds;
    u32 lines;
    u32 part_count;
    // Elements of a line.
    u32 per_line;
    // Whether these are rows: their factors need means over groups [outer, group_lines, inner].
    u32 is_row;
    u32 group_lines;
    u32 group_inner;
    u32 groups;
    // Lines and number of the blocks of a group in the kernel of lines, and the first of them.
    u32 block_lines;
    u32 group_blocks;
    u32 first_block;
    // The first counter of finished blocks, one for each group.
    u32 first_counter;
    u32 unused;
};

// One tensor, written when the optimizer is created.
struct Tensor {
    // The three momenta [3, n]; Adam's m.
    float *momentum;
    // The second moment [n]; Adam's v.
    float *rms;
    // For rank < 2 the three second moments [3, n].
    float *diagonal;
    // The learners of the online scale, [4, K], or null.
    float *learners;
    // The sum of updates Δ, or null.
    float *sum;
    // The parameters in f32 if they have another type, or null.
    float *master;
    // Without x, and without y.
    Side sides[2];
    u32 elements;
    u32 type;
    u32 is_diagonal;
    // x, and the length middle·y·inner of a row.
    u32 x;
    u32 columns;
    u32 middle;
    u32 y;
    u32 inner;
    u32 cut;
    // The part of a row that tiles divide evenly but for its last, and the tiles that it has.
    u32 span;
    u32 span_tiles;
    // Rows and columns of a tile.
    u32 tile_rows;
    u32 tile_columns;
    u32 tiles;
    // Tiles of a unit, the work of one block; the first unit, and their number.
    u32 unit_tiles;
    u32 first_unit;
    u32 units;
    u32 unused;
};

// Some lines of one group of one side, for one block.
struct Lines {
    u32 tensor;
    u32 side;
    u32 group;
    // The first line within the group; in the kernel that folds, within the side.
    u32 first;
};

// x = scale·m + shift, where m is an element's head or the head's mean over the tensor.
struct Exponent {
    float scale;
    float shift;
    u32 per_tensor;
};

// The optimizer, written when it is created.
struct Settings {
    // The coefficients of g, m₁, m₂, m₃ before the growth.
    double nominal[4];
    double beta1;
    double beta2;
    // ρ, the root mean square to which gradients are scaled.
    double gradient_rms;
    // The step from which on step features are constant and the blackbox term fades.
    u64 time_limit;
    Exponent nominal_exponent;
    Exponent blackbox_exponent;
    float blackbox;
    u32 nominal_preconditioned;
    u32 blackbox_preconditioned;
    // Whether the nominal term grows beyond the time limit.
    u32 grows;
    float one_minus_beta1;
    float one_minus_beta2;
    float epsilon;
    // The online scale: K or 0, w, κ, s₀/K, and β_i.
    u32 learners;
    float tensor_weight;
    float slope_limit;
    float start;
    float betas[LEARNERS];
    u32 tensors;
    u32 units;
};

// The state of the whole network that is no slot, and the values of the current step.
struct Control {
    // Steps taken and steps skipped.
    u64 step;
    u64 skipped;
    // Whether a gradient is invalid, for steps with even and with odd parity.
    u32 bad[2];
    // Units whose gradients have been read.
    u32 finished;
    // The factor of the gradients, if they are scaled.
    float gradient_factor;
    // S′ − S and S′ of the network.
    float change;
    float scale;
    // The factors of the two terms.
    float nominal[4];
    float blackbox;
    // Adam's bias corrections.
    float correction1;
    float correction2;
    float unused;
    // The first bias with the step features.
    float bias[WIDEST];
};

// The values of one tensor in the current step.
struct Outcome {
    // Invalid entries of the gradient, for steps with even and with odd parity.
    u32 bad[2];
    // Whether there is a gradient.
    u32 present;
    // Units that have finished.
    u32 finished;
    // S′ − S and S′ of the tensor.
    float change;
    float scale;
    // The means of the heads.
    float heads[HEADS];
    float unused;
    // The normalizers of the element features, and for rank < 2 of the moments.
    float normalizers[SUMS];
};

// Where everything is, the same in each launch.
struct Plan {
    const Settings *settings;
    const float *theta;
    const Tensor *tensors;
    // The tensor of each unit.
    const u32 *units;
    const Lines *lines;
    const Lines *folds;
    Control *control;
    // The slot of q and w, or null if gradients are not scaled.
    float *gradient_square;
    // The slot of the network's learners, [4, K], or null.
    float *learners;
    Outcome *outcomes;
    // Finished blocks of each group of lines.
    u32 *counters;
    // ⟨Δ, g⟩ of each unit.
    float *slopes;
    // Σg² of each unit.
    float *squares;
    // The sums of each unit, [units, SUMS].
    float *sums;
    // The sums of the heads of each unit, [units, HEADS].
    float *heads;
    // Of each block of lines: the sums of its moments, of their squares and of their inverses,
    // [blocks, 9].
    double *line_sums;
};

// The memory of one tensor that may move between steps.
struct Pointers {
    void *p;
    // Null for a missing gradient.
    const void *g;
};

// The argument of the kernels of one optimizer.
struct Arguments {
    Plan plan;
    float learning_rate;
    // 0 and 1 in turn.
    u32 parity;
    // The first tensor and the first unit of this launch.
    u32 first_tensor;
    u32 first_unit;
    Pointers pointers[CAPACITY];
};

// Activations, in the order of `lopt_kernels::mlp::Activation`.
enum Activation : u32 { RELU, TANH, SIGMOID, GELU, SILU, LEAKY_RELU, ELU, SOFTPLUS, SIN };

// One layer z = x·W + b of the networks of a fleet.
struct Layer {
    u32 inputs;
    u32 outputs;
    // Floats before W [inputs, outputs] and before b [outputs] in the parameters of a network.
    u32 weight;
    u32 bias;
    // Floats before z, a(z) and the gradient with respect to z, each [batch, outputs], in the
    // values of a network.
    u32 z;
    u32 a;
    u32 dz;
    u32 unused;
};

// The result of an inner step of one network.
struct StepResult {
    // Before the update.
    float loss;
    // Whether the step was skipped because a gradient is invalid.
    u32 skipped;
};

// Many multi-layer perceptrons of one shape that are trained together, with an optimizer each.
struct Fleet {
    // The arguments of the optimizer's kernels, for steps with even and with odd parity,
    // [2, networks].
    const Arguments *arguments;
    // [networks, size]
    float *params;
    float *grads;
    // [networks, value_size]
    float *values;
    // The images' pixels, [images, inputs of the first layer]: bytes or floats; the other is null.
    const u8 *bytes;
    const float *floats;
    // [images]
    const u8 *labels;
    // The images of each minibatch, [steps, networks / sharing, batch].
    const u32 *rows;
    // [steps, networks]
    StepResult *results;
    u64 size;
    u64 value_size;
    // The factor of pixels in [0, 1].
    float scale;
    u32 networks;
    // Consecutive networks that have the same minibatches.
    u32 sharing;
    u32 batch;
    u32 activation;
    u32 layer_count;
    Layer layers[LAYERS];
};

// The argument of a fleet's kernels.
struct FleetArguments {
    Fleet fleet;
    // The index of the minibatch.
    u32 step;
    u32 layer;
    // 0 and 1 in turn.
    u32 parity;
    u32 unused;
};

static_assert(sizeof(Side) == 80);
static_assert(sizeof(Tensor) == 280);
static_assert(sizeof(Lines) == 16);
static_assert(sizeof(Settings) == 168);
static_assert(sizeof(Control) == 200);
static_assert(sizeof(Outcome) == 128);
static_assert(sizeof(Plan) == 128);
static_assert(sizeof(Arguments) <= 4096);
static_assert(sizeof(Layer) == 32);
static_assert(sizeof(FleetArguments) == 1152);

// θ of an optimizer with two hidden layers of width H, decoded.
template <u32 H> struct Theta {
    float momentum_decays[3];
    float rms_decay;
    float factored_decays[3];
    float unused;
    float w0[PER_PARAMETER + PER_STEP][H];
    float b0[H];
    float w1[H][H];
    float b1[H];
    float w2[H][HEADS];
    float b2[HEADS];
};

// The part of θ before the layers.
struct Decays {
    float momentum[3];
    float rms;
    float factored[3];
};

template <u32 H> DEVICE const Theta<H> &theta_of(const Plan &plan) {
    return *reinterpret_cast<const Theta<H> *>(plan.theta);
}

DEVICE const Decays &decays_of(const Plan &plan) {
    return *reinterpret_cast<const Decays *>(plan.theta);
}

} // namespace lopt
