"""Hand-written JAX implementations for `experiments.speed`, which evaluate the equations in a jitted `lax.scan`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .areas import Areas
from .arrays import PADDING, RATE, STRIDE, TRANSPOSED, answer, to_jax, transposed
from .work import Contender, Result


def by_jax(weights: Sequence[Any], image: Any, label: Any, steps: int) -> Contender:
    """Return an implementation of `relaxing.plain_relaxation` in idiomatic JAX."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    axes = ("NHWC", "HWIO", "NHWC")

    def up(z: Any, w: Any) -> Any:
        if z.ndim == 2:
            return z @ w
        return lax.conv_general_dilated(z, w, (STRIDE, STRIDE), PADDING, dimension_numbers=axes)

    def down(d: Any, w: Any) -> Any:
        if d.ndim == 2:
            return d @ w.T
        back = transposed(w)
        return lax.conv_general_dilated(d, back, (1, 1), TRANSPOSED, (STRIDE, STRIDE), dimension_numbers=axes)

    @jax.jit
    def relaxed(w: Any, x: Any, y: Any) -> Any:
        def step(state: Any, _: None) -> Any:
            z1, z2 = state
            mu2, mu3 = jnp.tanh(up(z1, w[1])), jnp.tanh(up(z2, w[2]))
            e1, e2, e3 = z1 - mu1, z2 - mu2, y - mu3
            gradient1 = e1 - down(e2 * (1 - mu2**2), w[1])
            gradient2 = e2 - down(e3 * (1 - mu3**2), w[2])
            return (z1 - RATE * gradient1, z2 - RATE * gradient2), None

        mu1 = jnp.tanh(up(x, w[0]))
        return lax.scan(step, (mu1, jnp.tanh(up(mu1, w[1]))), None, length=steps)[0]

    return lambda: answer(*relaxed(list(weights), image, label))


def areas_by_jax(plain: Areas, image: Tensor, steps: int) -> Contender | None:
    """Return `Areas.run` with dt = 1 ms as a `lax.scan`, or None unless all maps are convolutions without bias."""
    maps = [plain.u1, plain.u2, plain.u3, plain.l1, plain.l2, plain.l3, plain.d1, plain.d2]
    known = (nn.Conv2d, nn.ConvTranspose2d)
    if any(not isinstance(one, known) or one.bias is not None for one in maps):
        return None
    import jax
    import jax.numpy as jnp
    from jax import lax

    def linear(one: Any) -> Callable[[Any, Any], Any]:
        stride, padding, kernel = one.stride, one.padding, one.kernel_size
        around, strides, spread = tuple((p, p) for p in padding), stride, (1, 1)
        if isinstance(one, nn.ConvTranspose2d):
            sides = zip(kernel, padding, one.output_padding, strict=True)
            around, strides, spread = tuple((k - 1 - p, k - 1 - p + e) for k, p, e in sides), (1, 1), stride
        axes = ("NHWC", "HWIO", "NHWC")
        return lambda z, w: lax.conv_general_dilated(z, w, strides, around, spread, dimension_numbers=axes)

    def weight(one: Any) -> Any:
        if isinstance(one, nn.ConvTranspose2d):
            return to_jax(one.weight.detach().flip(2, 3), (2, 3, 0, 1))
        return to_jax(one.weight.detach(), (2, 3, 1, 0))

    u1, u2, u3, l1, l2, l3, d1, d2 = (linear(one) for one in maps)
    weights, shown, tau = [weight(one) for one in maps], to_jax(image, (0, 2, 3, 1)), plain.taus

    @jax.jit
    def run(w: Any, x: Any) -> Any:
        first = u1(x, w[0])

        def step(state: Any, _: None) -> Any:
            r1, r2, r3 = state
            t1 = jnp.maximum(first + l1(r1, w[3]) + d1(r2, w[6]), 0)
            t2 = jnp.maximum(u2(r1, w[1]) + l2(r2, w[4]) + d2(r3, w[7]), 0)
            t3 = jnp.maximum(u3(r2, w[2]) + l3(r3, w[5]), 0)
            return (r1 + (t1 - r1) / tau[0], r2 + (t2 - r2) / tau[1], r3 + (t3 - r3) / tau[2]), None

        r1 = jnp.zeros_like(first)
        r2 = jnp.zeros_like(u2(r1, w[1]))
        return lax.scan(step, (r1, r2, jnp.zeros_like(u3(r2, w[2]))), None, length=steps)[0]

    def contender() -> Result:
        ends = zip(plain.names, run(weights, shown), strict=True)
        return {name: torch.from_dlpack(r.block_until_ready()).permute(0, 3, 1, 2) for name, r in ends}

    return contender
