"""Times torch.optim.Adam on the CPU for `cargo xtask bench`.

Reads a JSON object from the standard input, {"rounds": 7, "shapes": [[[784, 32], [32]], ...]}, and
prints the median time of a step of each list of tensors, on one thread:
{"torch": "2.5.1", "seconds": [{"fused": 1e-5, "foreach": 2e-5}, ...]}.
"""

import json
import statistics
import sys
import time
import warnings

# About NumPy, which is not needed.
warnings.filterwarnings("ignore")

import torch  # noqa: E402


def step_time(shapes, rounds, **how):
    params = [torch.randn(shape).requires_grad_() for shape in shapes]
    for param in params:
        param.grad = 0.1 * torch.randn_like(param)
    adam = torch.optim.Adam(params, lr=1e-3, **how)
    started = time.perf_counter()
    adam.step()
    adam.step()
    # About 0.1 s in each round.
    steps = max(1, int(0.2 / (time.perf_counter() - started)))
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(steps):
            adam.step()
        times.append((time.perf_counter() - started) / steps)
    return statistics.median(times)


def main():
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    ways = {"fused": {"fused": True}, "foreach": {"foreach": True}}
    seconds = []
    for shapes in asked["shapes"]:
        measured = {}
        for name, how in ways.items():
            try:
                measured[name] = step_time(shapes, asked["rounds"], **how)
            except (RuntimeError, TypeError):
                # This version has it for other devices only, or not at all.
                measured[name] = None
        seconds.append(measured)
    json.dump({"torch": torch.__version__, "seconds": seconds}, sys.stdout)


main()
