// The losses of many multi-layer perceptrons and their gradients. The grid is [blocks, networks].
#pragma once
#include "activation.cuh"
#include "gradients.cuh"
#include "product.cuh"
#include "reduce.cuh"

namespace lopt {

// The arguments of the optimizer's kernels for the network of this block.
DEVICE const Arguments &arguments_of(const FleetArguments &at) {
    return at.fleet.arguments[at.parity * at.fleet.networks + blockIdx.y];
}

// What the network of this block has in memory.
struct Member {
    const float *params;
    float *grads;
    float *values;
    // The images of its minibatch.
    const u32 *rows;
};

DEVICE Member member_of(const FleetArguments &at) {
    const Fleet &fleet = at.fleet;
    const u64 network = blockIdx.y, minibatches = fleet.networks / fleet.sharing;
    Member member;
    member.params = fleet.params + network * fleet.size;
    member.grads = fleet.grads + network * fleet.size;
    member.values = fleet.values + network * fleet.value_size;
    member.rows = fleet.rows + (at.step * minibatches + network / fleet.sharing) * fleet.batch;
    return member;
}

DEVICE StepResult &result_of(const FleetArguments &at) {
    return at.fleet.results[(u64)at.step * at.fleet.networks + blockIdx.y];
}

// Writes down whether the step is skipped, when the gradients have been checked.
DEVICE void write_skipped(const FleetArguments &at) {
    const Control &control = *arguments_of(at).plan.control;
    EACH_THREAD(t, THREADS) {
        if (t == 0 && blockIdx.x == 0)
            result_of(at).skipped = control.bad[at.parity];
    }
}

// x of a layer: a pixel, or the activation of the layer below.
DEVICE float input_of(const FleetArguments &at, const Member &member, u32 row, u32 column) {
    const Fleet &fleet = at.fleet;
    const u32 inputs = fleet.layers[at.layer].inputs;
    if (at.layer > 0)
        return member.values[fleet.layers[at.layer - 1].a + row * inputs + column];
    const u64 from = (u64)member.rows[row] * inputs + column;
    return (fleet.bytes ? (float)fleet.bytes[from] / 255.0f : fleet.floats[from]) * fleet.scale;
}

// z = x·W + b and a(z) of one layer. A block has one tile of z.
DEVICE void forward(const FleetArguments &at) {
    const Fleet &fleet = at.fleet;
    const Layer &layer = fleet.layers[at.layer];
    const Member member = member_of(at);
    const float *weight = member.params + layer.weight, *bias = member.params + layer.bias;
    const bool is_last = at.layer + 1 == fleet.layer_count;
    product<OF_TERMS, OF_LINES>(
        blockIdx.x, fleet.batch, layer.outputs, layer.inputs,
        [&](u32 row, u32 term) { return input_of(at, member, row, term); },
        [&](u32 column, u32 term) { return weight[term * layer.outputs + column]; },
        [&](u32 row, u32 column, float sum) {
            const u32 to = row * layer.outputs + column;
            const float z = sum + bias[column];
            member.values[layer.z + to] = z;
            if (!is_last)
                member.values[layer.a + to] = activated(fleet.activation, z);
        });
}

// −ln softmax(z)[label] of a row of `classes` logits; its gradient times `factor` goes to `dz`.
DEVICE float cross_entropy(const float *z, u32 classes, u32 label, float factor, float *dz) {
    float largest = z[0];
    for (u32 i = 1; i < classes; ++i)
        largest = z[i] > largest ? z[i] : largest;
    float sum = 0.0f;
    for (u32 i = 0; i < classes; ++i) {
        const float e = exponential(z[i] - largest);
        sum += e;
        dz[i] = e;
    }
    const float scale = factor / sum;
    for (u32 i = 0; i < classes; ++i)
        dz[i] = dz[i] * scale - (i == label ? factor : 0.0f);
    return logf(sum) - (z[label] - largest);
}

// The loss, the mean cross-entropy of the minibatch, and its gradient with respect to the logits.
// One block for each network.
DEVICE void loss(const FleetArguments &at) {
    SHARED BlockSums<double, 1, THREADS> sums;
    const Fleet &fleet = at.fleet;
    const Layer &last = fleet.layers[fleet.layer_count - 1];
    const Member member = member_of(at);
    EACH_THREAD(t, THREADS) {
        double sum = 0.0;
        for (u32 row = t; row < fleet.batch; row += THREADS) {
            const float *z = member.values + last.z + row * last.outputs;
            float *dz = member.values + last.dz + row * last.outputs;
            const u32 label = fleet.labels[member.rows[row]];
            sum += cross_entropy(z, last.outputs, label, 1.0f / (float)fleet.batch, dz);
        }
        sums.values[0][t] = sum;
    }
    sums.reduce();
    EACH_THREAD(t, THREADS) {
        if (t == 0) {
            const float mean = (float)(sums.totals[0] / (double)fleet.batch);
            result_of(at).loss = mean;
        }
    }
}

// The gradients of one layer from that of its z, and the gradient of the z below. The blocks are the
// tiles of the gradient of W, those of the z below if there is one, and SIDE columns of b each.
DEVICE void backward(const FleetArguments &at) {
    SHARED float slices[PRODUCT_THREADS];
    const Fleet &fleet = at.fleet;
    const Layer &layer = fleet.layers[at.layer];
    const Member member = member_of(at);
    const u32 inputs = layer.inputs, outputs = layer.outputs;
    const float *dz = member.values + layer.dz, *weight = member.params + layer.weight;
    u32 block = blockIdx.x;
    const u32 of_weight = tiles_along(inputs) * tiles_along(outputs);
    if (block < of_weight) {
        float *to = member.grads + layer.weight;
        product<OF_LINES, OF_LINES>(
            block, inputs, outputs, fleet.batch,
            [&](u32 row, u32 term) { return input_of(at, member, term, row); },
            [&](u32 column, u32 term) { return dz[term * outputs + column]; },
            [&](u32 row, u32 column, float sum) { to[row * outputs + column] = sum; });
        return;
    }
    block -= of_weight;
    const u32 of_bias = tiles_along(outputs);
    if (block < of_bias) {
        float *to = member.grads + layer.bias;
        const u32 first = block * SIDE;
        sum_lines<PRODUCT_THREADS>(
            slices, smaller(SIDE, outputs - first), fleet.batch,
            [&](u32 column, u32 row) { return dz[row * outputs + first + column]; },
            [&](u32 column, float sum) { to[first + column] = sum; });
        return;
    }
    block -= of_bias;
    const Layer &below = fleet.layers[at.layer - 1];
    product<OF_TERMS, OF_TERMS>(
        block, fleet.batch, inputs, outputs,
        [&](u32 row, u32 term) { return dz[row * outputs + term]; },
        [&](u32 column, u32 term) { return weight[column * outputs + term]; },
        [&](u32 row, u32 column, float sum) {
            const u32 to = row * inputs + column;
            member.values[below.dz + to] =
                sum * slope(fleet.activation, member.values[below.z + to]);
        });
}

} // namespace lopt
