"""Times Adam of PyTorch and DeepSpeed on the CPU for `cargo xtask bench`.

Reads a JSON object from the standard input, {"rounds": 7, "shapes": [[[784, 32], [32]], ...]}, and
prints the median time in seconds of a step of each list of tensors, on one thread, for each
implementation that this Python has: [{"torch 2.8.0 Adam(fused=True)": 1e-5, ...}, ...].
"""

import json
import os
import statistics
import sys
import time
import warnings

# About NumPy, which is not needed.
warnings.filterwarnings("ignore")
# DeepSpeed's kernel, which is compiled at its first use, has threads of its own.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["DS_ACCELERATOR"] = "cpu"

import torch  # noqa: E402


def implementations():
    torch_adam = f"torch {torch.__version__} Adam"
    yield f"{torch_adam}(fused=True)", lambda params: torch.optim.Adam(params, fused=True)
    yield f"{torch_adam}(foreach=True)", lambda params: torch.optim.Adam(params, foreach=True)
    try:
        import deepspeed
        from deepspeed.ops.adam import DeepSpeedCPUAdam
    except Exception as error:
        # It is not installed, or fails in one of many ways.
        print(f"left out: DeepSpeed: {error}", file=sys.stderr)
        return
    yield f"deepspeed {deepspeed.__version__} DeepSpeedCPUAdam", DeepSpeedCPUAdam


def step_time(shapes, rounds, new):
    params = [torch.randn(shape).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = 0.1 * torch.randn_like(param)
    adam = new(params)
    adam.step()
    started = time.perf_counter()
    adam.step()
    # About 0.1 s in each round.
    steps = max(1, int(0.1 / (time.perf_counter() - started)))
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(steps):
            adam.step()
        times.append((time.perf_counter() - started) / steps)
    return statistics.median(times)


def main():
    # The results alone: libraries write to the standard output too.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    seconds = [{} for _ in asked["shapes"]]
    for name, new in implementations():
        for shapes, measured in zip(asked["shapes"], seconds):
            try:
                measured[name] = step_time(shapes, asked["rounds"], new)
            except Exception as error:
                # This version has it for other devices only, or it cannot be compiled or loaded.
                print(f"left out: {name}: {error}", file=sys.stderr)
                break
    json.dump(seconds, results)


main()
