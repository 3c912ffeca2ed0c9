"""Writes online_scale.safetensors: optax.contrib.mechanize around optax.adam, in float64.

`RUN/network/` has one scale for all tensors, `RUN/tensors/` runs each tensor by itself.

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


def optimizer():
    adam = optax.adam(CONFIG["lr"], CONFIG["b1"], CONFIG["b2"], CONFIG["eps"])
    return optax.contrib.mechanize(
        adam,
        weight_decay=0.0,
        eps=1e-12,
        s_init=CONFIG["initial"],
        num_betas=CONFIG["learners"],
    )


def run(params, gradients, prefix, out):
    mechanic = optimizer()
    state = mechanic.init(params)
    for step in range(1, len(gradients) + 1):
        updates, state = mechanic.update(gradients[step - 1], state, params)
        params = optax.apply_updates(params, updates)
        if step in KEPT:
            for name in params:
                out[f"{prefix}/step{step}/{name}"] = np.asarray(params[name])
            learners = np.stack([np.asarray(getattr(state, slot)) for slot in "mvrs"])
            out[f"{prefix}/learners{step}/{min(params)}"] = learners


def both(params, gradients, name, out):
    run(params, gradients, f"{name}/network", out)
    for tensor in params:
        alone = [{tensor: g[tensor]} for g in gradients]
        run({tensor: params[tensor]}, alone, f"{name}/tensors", out)
    for step, g in enumerate(gradients, 1):
        out.update({f"{name}/gradients/{step}/{k}": np.asarray(v) for k, v in g.items()})


def downhill(params, steps):
    """Gradients of a quadratic function with its minimum at 3, along gradient descent."""
    gradients = []
    for _ in range(steps):
        gradients.append({k: p - 3.0 for k, p in params.items()})
        params = {k: p - 0.02 * gradients[-1][k] for k, p in params.items()}
    return gradients


params = below("params")
main = below("grads_main")
out = {}
# The gradients that all optimizers are compared on: unrelated, zero, huge and tiny.
both(params, [{k: g[step] for k, g in main.items()} for step in range(12)], "main", out)
# Gradients that keep their direction: the scale grows a lot.
both(params, downhill(params, 40), "quadratic", out)
metadata = {"config": json.dumps(CONFIG), "jax": jax.__version__, "optax": optax.__version__}
save_file(out, HERE / "online_scale.safetensors", metadata)
