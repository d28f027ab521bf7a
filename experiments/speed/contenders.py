"""Other implementations in `experiments.speed`, using JAX on a CPU: FabricPC, ngc-learn, pcx and hand-written JAX.

pcsim does not need these packages, and only those that are installed are timed. FabricPC, ngc-learn and pcx run W1 and
W2b with their own components and inference. The hand-written JAX code also runs the areas as an ODE, using `lax.scan`
over the equations. Each implementation is compiled as a single function that computes the initial values and all steps,
with channels last (channels first in pcx, whose layers come from Equinox). Because only z_1 and z_2 are returned, XLA
omits unused computations such as the gradient with respect to z_0. pcx needs an older JAX than the others and therefore
runs in a separate process (`Worker`).
"""

from __future__ import annotations

import os
import pickle
import subprocess
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcsim import PcsimError

from .arrays import threads_of_jax, to_jax
from .by_jax import areas_by_jax, by_jax
from .by_packages import by_fabricpc, by_ngclearn
from .work import Contender, Result, Work

PACKAGES = ("fabricpc", "ngclearn", "pcx", "jax")


def is_installed(package: str) -> bool:
    """Return True if a package can be imported."""
    return find_spec(package) is not None


def others(work: Work, packages: tuple[str, ...], pcx_python: str, ended: ExitStack) -> dict[str, Contender]:
    """Return an implementation for each package that can run this workload. Closing `ended` terminates their processes.

    JAX runs on the CPU and keeps the number of threads with which it was started.
    """
    image = (work.relaxation or work.areas or (None, torch.empty(0)))[1]
    found: dict[str, Contender | None] = {}
    for package in packages if image.device.type == "cpu" else ():
        if package == "pcx":
            if work.relaxation and pcx_python:
                found[package] = ended.enter_context(closing(Worker(pcx_python, *work.relaxation)))
        elif is_installed(package) and threads_of_jax() == torch.get_num_threads():
            if work.relaxation:
                found[package] = _relaxation(package, *work.relaxation)
            elif package == "jax" and work.areas:
                found[package] = areas_by_jax(*work.areas)
    return {package: contender for package, contender in found.items() if contender is not None}


def _relaxation(package: str, weights: list[Tensor], image: Tensor, label: Tensor, steps: int) -> Contender:
    """Return an implementation of `relaxing.plain_relaxation` with the given package."""
    made = {"fabricpc": by_fabricpc, "ngclearn": by_ngclearn, "jax": by_jax}[package]
    of_weight, of_image = ((2, 3, 1, 0), (0, 2, 3, 1)) if image.dim() == 4 else ((1, 0), (0, 1))
    arrays = [to_jax(weight, of_weight) for weight in weights]
    return made(arrays, to_jax(image, of_image), to_jax(label, of_image), steps)


class Worker:
    """An implementation that runs `by_pcx.py` in another Python, with the current number of PyTorch threads."""

    def __init__(self, python: str, weights: list[Tensor], image: Tensor, label: Tensor, steps: int) -> None:
        threads = str(torch.get_num_threads())
        try:
            self.process = subprocess.Popen(
                [python, "-P", str(Path(__file__).with_name("by_pcx.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "JAX_PLATFORMS": "cpu", "NPROC": threads},  # the size of XLA's thread pools
            )
        except (OSError, ValueError) as reason:
            raise _no_pcx(python, f"cannot be run ({reason})") from reason
        self.python = python
        self._send(([weight.numpy() for weight in weights], image.numpy(), label.numpy(), steps))

    def __call__(self) -> Result:
        """Return the answer of one call, in the plain loop's format."""
        z1, z2 = self._request(0)
        return {"r2": torch.tensor(z1), "r1": torch.tensor(z2)}

    def timed(self, calls: int) -> float:
        """Return the seconds per call, excluding communication between the processes."""
        return self._request(calls)

    def close(self) -> None:
        """Terminate the process."""
        self.process.kill()
        self.process.communicate()

    def _send(self, message: object) -> None:
        assert self.process.stdin is not None
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()

    def _request(self, calls: int) -> Any:
        assert self.process.stdout is not None
        try:
            self._send(calls)
            return pickle.load(self.process.stdout)  # noqa: S301 - sent by our child process
        except (BrokenPipeError, EOFError):
            ended = f"exited with status {self.process.wait()}; its error message is above"
            raise _no_pcx(self.python, ended) from None


def _no_pcx(python: str, what: str) -> PcsimError:
    return PcsimError(
        given=f"--pcx-python {python}, which {what}",
        expected="the Python interpreter of an environment with pcx 0.6.3",
        remedy="create one (see docs/results/speed.md), and pass its interpreter: --pcx-python PCX/bin/python",
    )
