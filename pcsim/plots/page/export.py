"""Export of web pages that run a network in the browser: `export_page`."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pcsim.core import storage
from pcsim.core.checks import checked
from pcsim.core.exceptions import SolverError, StimulusError, StorageError, WiringError
from pcsim.core.version import VERSION
from pcsim.network import Network
from pcsim.network.wiring import Wiring
from pcsim.plots.page.javascript import Constants, decompositions, program
from pcsim.plots.page.lowering import lower
from pcsim.plots.routes import laid_out
from pcsim.simulation.schedule import steps_of
from pcsim.solvers import Euler, Iterate
from pcsim.solvers.base import Solver
from pcsim.stimuli.timeline import as_timelines

LARGEST = 500_000
"""the largest number of parameters, each of which takes 5.3 characters in the file"""
MOST_IMAGES = 100
_UNIT = 100
"""pixels of the drawing per unit of the layout"""


@checked(WiringError, images=StimulusError, labels=StimulusError, path=StorageError, solver=SolverError)
def export_page(
    net: Network,
    path: str | Path,
    images: Tensor,
    *,
    labels: Tensor | None = None,
    solver: Solver | None = None,
    until: float | None = None,
    readout: str | None = None,
    continuous: bool = True,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write one HTML file in which `net` runs in the browser, without a server or requests.

    On the page, edges can be cut, time constants changed and parts of the image covered; curves show the readout and
    the prediction errors, or the mean activity if the network has no prediction errors.

    images      (n, channel, height, width) in [0, 1], with 1 or 3 channels: the images to choose from
    labels      (n,), the true class of each image
    solver      for a flow, and for the continuous version of a discrete network; by default, Euler with a tenth of the
                smallest time constant
    until       end of a run in ms; by default `net.steps` steps, or for a flow ten times the largest time constant
    readout     a population (class,) whose values are displayed unchanged, such as the labels at the top of a
                predictive coding network; by default, probabilities: the softmax of `net.readout`
    continuous  whether a discrete network can also be run as `net.as_ode(tau=net.step_ms)`
    about       lines for the foot of the page, such as {"trained on": "debris-light", "seed": "0"}

    An existing file is overwritten. Raises WiringError for a network with several inputs, more than 500,000 parameters,
    windows, conduction delays or transforms that differ between steps, and for an operation that a page cannot run;
    docs/export_page.md lists them. Raises StimulusError for images of the wrong shape or range.

        blt = pcsim.models.build("blt", weights="debris-light")
        pcsim.plots.export_page(blt, "blt.html", images, labels=labels)
    """
    shown = _checked_images(net, images, labels)
    name = readout or net.readout
    _require_readout(net, name)
    constants = Constants()
    variants: list[tuple[str, Network, Solver]] = []
    if net.is_flow:
        variants.append(("continuous", net, solver or _default_solver(net.wiring())))
    else:
        variants.append(("discrete steps, as trained", net, Iterate()))
        if continuous:
            ode = net.as_ode(tau=net.step_ms)
            variants.append(("continuous time", ode, solver or _default_solver(ode.wiring())))
    errors = net.wiring().errors
    traces = errors or net.memories
    picture = _picture(net)
    records = [(str(name), "values" if readout else "softmax")]
    records += [(each, "mean_square" if errors else "mean_abs") for each in traces]
    records += [(picture, "values")] if picture and picture not in dict(records) else []
    models = [
        _model(label, each, by, _end(net, by, until), records, shown[:1], constants) for label, each, by in variants
    ]
    data = {
        "image": list(shown.shape[1:]),
        "constants": constants.stored,
        "examples": _examples(shown, labels),
        "readout": {"name": name, "softmax": readout is None},
        "traces": {
            "names": list(traces),
            "title": "Prediction errors" if errors else "Activity",
            "label": "mean squared error" if errors else "mean absolute value",
        },
        "picture": picture,
        "graph": _graph(net),
        "facts": [
            ["model", net.name],
            ["parameters", f"{net.parameter_count:,}"],
            *(about or {}).items(),
            ["pcsim", VERSION],
        ],
    }
    storage.write_text(path, _page(net.name, data, models))


def _page(title: str, data: Mapping[str, Any], models: list[str]) -> str:
    folder = files("pcsim.plots.page")
    text = (folder / "page.html").read_text(encoding="utf-8")
    parts = {
        "mark": storage.MARK,
        "title": html.escape(title),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "simulation": (folder / "simulation.js").read_text(encoding="utf-8"),
        "page": (folder / "page.js").read_text(encoding="utf-8"),
        "data": _literal(data),
        "models": ",\n".join(models),
    }
    head, *rest = text.split("{{")
    for part in rest:  # in one pass, so that inserted text is not searched
        key, _, after = part.partition("}}")
        head += parts[key] + after
    return head


def _literal(value: Any) -> str:
    """Return a JavaScript literal that is safe inside a script element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def _model(
    label: str,
    net: Network,
    solver: Solver,
    until: float,
    records: list[tuple[str, str]],
    image: Tensor,
    constants: Constants,
) -> str:
    """Return one version of the network as a JavaScript object."""
    wiring = net.wiring()
    steps = steps_of(wiring, as_timelines(image, list(net.inputs)), solver, until, None)
    made = lower(net, solver, steps, [name for name, _ in records], image, decompositions())
    settings = {
        "label": label,
        "isFlow": net.is_flow,
        "solver": repr(solver),
        "dt": solver.step_ms(wiring),
        "steps": steps,
        "taus": made.taus,
        "tau": {name: sum(values) / len(values) for name, values in made.taus.items()},
        "closed": made.closed,
        "records": records,
    }
    start, step = program(made.start, constants), program(made.step, constants)
    return f"{{ ...{_literal(settings)},\nstart: {start},\nstep: {step} }}"


def _default_solver(network: Wiring) -> Solver:
    return Euler(dt=min(rule.tau.smallest() for rule in network.flows.values()) / 10)


def _end(net: Network, solver: Solver, until: float | None) -> float:
    if until is not None:
        return until
    if net.is_flow:
        dt = solver.step_ms(net.wiring())
        return dt * math.ceil(10 * max(rule.tau.largest() for rule in net.wiring().flows.values()) / dt - 1e-9)
    if net.steps is None:
        raise SolverError(
            given=f"a page of {net.name!r} without until",
            expected="the end of the run in ms, because this network has no default number of steps",
            remedy=f"pass until={10 * net.step_ms:g}",
        )
    return net.steps * net.step_ms


def _checked_images(net: Network, images: Tensor, labels: Tensor | None) -> Tensor:
    """Check the images, the labels, and the network's size and inputs, and return the images as float32."""
    if len(net.inputs) != 1 or net.parameter_count > LARGEST:
        raise WiringError(
            given=f"a page of {net.name!r}, with {net.parameter_count:,} parameters and inputs {', '.join(net.inputs)}",
            expected=f"one input (an image) and at most {LARGEST:,} parameters",
            remedy="build the model with fewer channels, and clamp only the image",
        )
    ((name, shape),) = net.inputs.items()
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise WiringError(
            given=f"a page of {net.name!r}, whose input {name!r} has the shape {tuple(shape)}",
            expected="an input (channel, height, width) that can be drawn, with 1 or 3 channels",
            remedy="build the model with image=(1, 32, 32) or image=(3, 32, 32)",
        )
    if tuple(images.shape[1:]) != tuple(shape) or not len(images):
        raise StimulusError(
            given=f"images {tuple(images.shape)} for the input {name!r} {tuple(shape)}",
            expected="images (n, channel, height, width) of the input's shape",
            remedy=f"pass images of shape (n, {', '.join(map(str, shape))})",
        )
    if len(images) > MOST_IMAGES or (labels is not None and tuple(labels.shape) != (len(images),)):
        raise StimulusError(
            given=f"{len(images)} images" + ("" if labels is None else f" and labels {tuple(labels.shape)}"),
            expected=f"at most {MOST_IMAGES} images, and one label for each",
            remedy="pass images[:20] and labels[:20]",
        )
    shown = images.detach().cpu().float()
    if not bool(((shown >= 0) & (shown <= 1)).all()):
        raise StimulusError(
            given=f"pixels from {float(shown.min()):g} to {float(shown.max()):g}",
            expected="pixels in [0, 1], which can be drawn",
            remedy="pass images before normalisation, and put the normalisation into the network's first edge",
        )
    return shown


def _require_readout(net: Network, name: str | None) -> None:
    wired = set(net.wiring().errors)
    flat = [each for each in net.populations if len(net.shape(each)) == 1 and net.shape(each) != (1,)]
    flat = [each for each in flat if each not in wired]
    if name not in flat:
        raise WiringError(
            given=f"a page of {net.name!r} with the readout {name!r}",
            expected=f"a population with several values on one axis: {', '.join(flat) or 'this network has none'}",
            remedy=f"pass readout={flat[-1]!r}" if flat else "add a population with an edge that pools maps to classes",
        )


def _picture(net: Network) -> str | None:
    """Return the population, if any, that predicts the input and can be drawn as an image."""
    wiring = net.wiring()
    for error, target in wiring.predicted.items():
        if target in net.inputs:
            for edge in wiring.incoming[error]:
                if edge.port == "prediction" and net.shape(edge.source) == net.inputs[target]:
                    return edge.source
    return None


def _examples(images: Tensor, labels: Tensor | None) -> list[dict[str, Any]]:
    """Return the images, converted to bytes if this is lossless."""
    found = []
    for number, image in enumerate(images.contiguous().numpy()):
        coarse = np.rint(image * 255).astype(np.uint8)
        is_coarse = bool((coarse.astype(np.float32) / np.float32(255) == image).all())
        content = {
            "bytes" if is_coarse else "floats": base64.b64encode((coarse if is_coarse else image).tobytes()).decode()
        }
        found.append({"label": None if labels is None else int(labels[number]), **content})
    return found


def _graph(net: Network) -> dict[str, Any]:
    """Return the boxes and routes of a drawing, in pixels, with y pointing downwards."""
    layout = laid_out(net, net.projections)
    (left, bottom), (right, top) = layout.limits

    def point(place: Any) -> list[float]:
        return [round(float(place[0] - left) * _UNIT, 1), round(float(top - place[1]) * _UNIT, 1)]

    boxes = [
        {"name": name, "x": point(place)[0], "y": point(place)[1], "isInput": name in net.inputs}
        for name, place in layout.places.items()
    ]
    edges = [
        {
            "name": edge.name,
            "source": edge.source,
            "target": edge.target,
            "kind": edge.kind,
            "delay": edge.delay or 0,
            "route": [point(corner) for corner in layout.routes[edge.name]],
        }
        for edge in net.projections
    ]
    return {
        "view": [0, 0, round((right - left) * _UNIT), round((top - bottom) * _UNIT)],
        "boxes": boxes,
        "edges": edges,
    }
