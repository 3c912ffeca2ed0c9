"""Writes online_scale.safetensors: optax.contrib.mechanize around optax.adam, in float64.

    python3 -m venv venv && venv/bin/pip install jax==0.10.2 optax==0.2.8 safetensors==0.8.0
    venv/bin/python online_scale.py
"""

import json
from pathlib import Path

import jax
import numpy as np
import optax
from safetensors.numpy import load_file, save_file

jax.config.update("jax_enable_x64", True)
HERE = Path(__file__).parent
CONFIG = {"lr": 0.01, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "initial": 0.1, "learners": 6}
KEPT = [1, 2, 3, 12, 40]

inputs = load_file(HERE / "inputs.safetensors")


def below(prefix):
    return {k[len(prefix) + 1 :]: np.float64(v) for k, v in inputs.items() if k.startswith(prefix)}


def run(params, gradient, steps, prefix, out):
    adam = optax.adam(CONFIG["lr"], CONFIG["b1"], CONFIG["b2"], CONFIG["eps"])
    optimizer = optax.contrib.mechanize(
        adam, weight_decay=0.0, s_init=CONFIG["initial"], num_betas=CONFIG["learners"]
    )
    state = optimizer.init(params)
    for step in range(1, steps + 1):
        grads = gradient(step, params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        for name in grads:
            out[f"{prefix}/gradients/{step}/{name}"] = np.asarray(grads[name])
        if step in KEPT:
            for name in params:
                out[f"{prefix}/step{step}/{name}"] = np.asarray(params[name])
            for slot in "mvrs":
                out[f"{prefix}/state{step}/{slot}"] = np.asarray(getattr(state, slot))


params = below("params")
main = below("grads_main")
out = {}
# The gradients that all optimizers are compared on: unrelated, zero, huge and tiny.
run(params, lambda step, _: {k: g[step - 1] for k, g in main.items()}, 12, "main", out)
# The gradients of a quadratic function with its minimum at 3: the scale grows a lot.
run(params, lambda _, p: {k: np.asarray(v) - 3.0 for k, v in p.items()}, 40, "quadratic", out)
metadata = {"config": json.dumps(CONFIG), "jax": jax.__version__, "optax": optax.__version__}
save_file(out, HERE / "online_scale.safetensors", metadata)
