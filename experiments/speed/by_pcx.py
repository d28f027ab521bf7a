"""pcx implementation for `experiments.speed`, which runs in a separate process because pcx 0.6.3 needs JAX below 0.5.

`contenders.Worker` runs this file with the Python of an environment that contains pcx but not PyTorch or pcsim. The
process receives (weights, image, label, steps) from standard input, followed by requests. Each request is a number of
calls: for 0, the process returns z_1 and z_2; otherwise, it returns the seconds per call.
"""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pcx.functional as pxf
import pcx.nn as pxnn
import pcx.predictive_coding as pxc
import pcx.utils as pxu

RATE = 0.1


class Chain(pxc.EnergyModule):
    """Layers u_l = tanh(W_l z_{l-1}), each with a vode that stores z_l; the last vode is clamped to the label."""

    def __init__(self, weights: Sequence[Any]) -> None:
        super().__init__()
        self.layers = [layer(weight) for weight in weights]
        self.vodes = [pxc.Vode() for _ in weights]
        self.vodes[-1].h.frozen = True

    def __call__(self, x: jax.Array, y: jax.Array | None) -> None:
        """Update each u_l from the current z_{l-1}."""
        for own, vode in zip(self.layers, self.vodes, strict=True):
            x = vode(jnp.tanh(own(x)))
        if y is not None:
            self.vodes[-1].set("h", y)


def layer(weight: Any) -> Any:
    """Build a linear layer, or a convolution with stride 2, from this weight; channels come first, as in PyTorch."""
    outputs, inputs, *kernel = weight.shape
    if kernel:
        made = pxnn.Conv2d(inputs, outputs, kernel, stride=2, padding=1, use_bias=False)
    else:
        made = pxnn.Linear(inputs, outputs, bias=False)
    made.nn.weight.set(jnp.array(weight))
    return made


batched = pxu.M(pxc.VodeParam | pxc.VodeParam.Cache).to((None, 0))
free, differentiated = (pxu.M_hasnot(pxc.VodeParam, frozen=True) for _ in range(2))  # two, because `to` modifies them


@pxf.vmap({"model": batched}, in_axes=(0, 0), out_axes=0)
def forward(x: jax.Array, y: jax.Array, *, model: Chain) -> None:
    """Initialise all z_l to their feed-forward values."""
    model(x, y)


@pxf.value_and_grad({"model": differentiated.to((False, True))}, has_aux=False)
@pxf.vmap({"model": batched}, in_axes=(0,), out_axes=None, axis_name="batch")
def energy(x: jax.Array, *, model: Chain) -> jax.Array:
    """F = 1/2 sum |z_l - u_l|^2 over layers and samples."""
    model(x, None)
    return jax.lax.psum(model.energy(), "batch")


def step(_: None, x: jax.Array, *, model: Chain, optimizer: pxu.Optim) -> tuple[tuple[jax.Array], None]:
    """Take one gradient descent step."""
    with pxu.step(model, clear_params=pxc.VodeParam.Cache):
        _, gradient = energy(x, model=model)
    optimizer.step(model, gradient["model"])
    return (x,), None


def relaxation(weights: Sequence[Any], image: Any, label: Any, steps: int) -> Callable[[], tuple[Any, Any]]:
    """Return a compiled function that relaxes the network from its feed-forward values.

    Each layer type uses its fastest implementation. Linear layers run in a scan (100 steps of W1 small take 1.3 ms,
    compared with 2.1 ms unrolled). Convolutions are unrolled because XLA in this JAX version runs them 9 to 14 times
    slower inside a loop.
    """
    chain, descent = Chain(weights), pxu.Optim(lambda: optax.sgd(RATE))
    shown, wanted = jnp.array(image), jnp.array(label)

    @pxf.jit()
    def relaxed(x: jax.Array, y: jax.Array, *, model: Chain, optimizer: pxu.Optim) -> tuple[Any, Any]:
        with pxu.step(model, (pxc.STATUS.INIT, None), clear_params=pxc.VodeParam.Cache):
            forward(x, y, model=model)
        optimizer.init(free(model))
        if x.ndim == 4:
            for _ in range(steps):
                step(None, x, model=model, optimizer=optimizer)
        else:
            pxf.scan(step, length=steps)(x, model=model, optimizer=optimizer)
        z1, z2, _ = (vode.h.get() for vode in model.vodes)
        optimizer.clear()
        model.clear_params(pxc.VodeParam)  # reset the model for the next call
        return z1, z2

    def call() -> tuple[Any, Any]:
        z1, z2 = relaxed(shown, wanted, model=chain, optimizer=descent)
        return z1.block_until_ready(), z2.block_until_ready()

    return call


def serve() -> None:
    """Reply to requests until standard input is closed."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    call = relaxation(*pickle.load(requests))  # noqa: S301 - sent by the parent process
    while True:
        try:
            calls = pickle.load(requests)  # noqa: S301
        except EOFError:
            return
        begun = time.perf_counter()
        for _ in range(calls):
            call()
        seconds = (time.perf_counter() - begun) / calls if calls else 0.0
        pickle.dump(seconds if calls else tuple(jax.device_get(z) for z in call()), answers)
        answers.flush()


if __name__ == "__main__":
    serve()
