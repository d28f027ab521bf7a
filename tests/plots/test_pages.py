"""Pages that run networks, in a headless browser: their numbers against pcsim's, and their switches."""

# ruff: noqa: E501 - JavaScript and tables of cases
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.javascript import browser, in_page

from pcsim import (
    RK4,
    Euler,
    Iterate,
    Network,
    Record,
    StimulusError,
    StorageError,
    WiringError,
    models,
    plots,
    simulate,
)
from pcsim.plots.page.javascript import Constants, decompositions, program
from pcsim.plots.page.lowering import lower

needs_browser = pytest.mark.skipif(browser() is None, reason="no Chromium on the PATH")
CUT = [{"mode": mode, "cut": [edge]} for mode in (0, 1) for edge in ("image->l1", "l1->l2", "l1->l1", "l2->l1")]
CASES = {
    "blt": [
        *({"mode": mode} for mode in (0, 1)), *CUT, {"mode": 0, "cut": ["l1->l1", "l2->l2", "l2->l1"], "example": 1},
        {"mode": 0, "cut": ["l2->readout"]}, {"mode": 1, "taus": {"l1": 17.0, "l2": 6.5}},
        {"mode": 1, "taus": {"l2": 31.0}, "cut": ["l2->l1"]},
    ],
    "predictive_coding": [
        {}, {"example": 1}, *({"cut": [edge]} for edge in ("r1->p0", "p0->e0", "e0->r1", "e1->r1", "r1->e1", "r0->e0")),
        {"cut": ["r2->p1"]}, {"cut": ["e1->r2", "e0->r1"]}, {"taus": {"r1": 25.0}}, {"taus": {"r2": 4.0}, "cut": ["e1->r1"]},
    ],
    "pcn_global": [{}, *({"cut": [edge]} for edge in ("prior1->p0", "e0->r1", "r2->p1", "p1->prior1", "image->e0", "r2->readout"))],
    "leaky_rcnn": [{}, {"taus": {"l1": 20.0}}, {"cut": ["l2->l1"]}],
}  # fmt: skip


def network(name: str) -> tuple[Network, dict[str, Any]]:
    """Return a small network with weights that are large enough for recurrence to matter, and options of its page."""
    torch.manual_seed(3)
    if name == "blt":
        made, options = models.blt((4, 6), image=(1, 12, 12)), {}
    elif name == "predictive_coding":
        made = models.predictive_coding(((1, 6, 6), (5,), (3,)), activation="tanh", precision=(1.0, 0.5))
        options = {"readout": "r2", "until": 60.0, "solver": RK4(dt=2.0)}
    elif name == "pcn_global":
        made, options = (
            models.pcn_global((4, 5), pooled=(2,), cycles=4, image=(3, 8, 8), classes=3),
            {"continuous": False},
        )
    else:
        made = models.leaky_rcnn((3, 4), tau=(10.0, 20.0), image=(1, 8, 8)).as_ode({"l2": [10.0, 20.0, 30.0, 40.0]})
        options = {"until": 30.0, "solver": Euler(dt=2.0), "readout": None}
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.5)
            elif not parameter.any():
                parameter.normal_(0.0, 0.1)
    return made, options


def written(name: str, folder: Path) -> tuple[Network, dict[str, Any], torch.Tensor, Path]:
    net, options = network(name)
    (shape,) = net.inputs.values()
    images = (torch.rand(2, *shape) * 255).round() / 255
    images[1] = torch.rand(shape)
    path = folder / f"{name}.html"
    plots.export_page(net, path, images, labels=torch.tensor([2, 0]), **options)
    return net, options, images, path


def variant(net: Network, case: dict[str, Any], options: dict[str, Any]) -> tuple[Network, Any, float]:
    """Return the network, solver and end of a case, as pcsim's user would write them."""
    taus, solver, until = case.get("taus", {}), Iterate(), (net.steps or 0) * net.step_ms
    if case.get("mode"):
        net, solver = net.as_ode(net.step_ms), Euler(dt=1.0)
    elif net.is_flow:
        solver, until = options["solver"], options["until"]
    if taus:
        net = net.as_ode(taus)
    return (net.without(*case["cut"]) if case.get("cut") else net), solver, until


def largest_difference(net: Network, options: dict[str, Any], images: torch.Tensor, case: Any, rows: Any) -> float:
    lesioned, solver, until = variant(net, case, options)
    name = options.get("readout") or net.readout
    image = images[case.get("example", 0)][None]
    run = simulate(lesioned, image, solver=solver, until=until, record=Record(states=[name], errors="all"))
    shown = run[name] if options.get("readout") else run[name].softmax(-1)
    wanted = {name: shown[:, 0].double().numpy(), **{e: run.errors[e][:, 0].double().numpy() for e in net.errors}}
    assert len(rows) == len(run.times)
    return max(float(np.abs(np.array([row[key] for row in rows]) - value).max()) for key, value in wanted.items())


@needs_browser
@pytest.mark.parametrize("name", ["blt", "predictive_coding"])
def test_page_equals_pcsim_and_responds_to_clicks_and_keys(name: str, tmp_path: Path) -> None:
    net, options, images, path = written(name, tmp_path)
    edge = {"blt": "l2->l1", "predictive_coding": "r1->p0"}[name]
    body = f"""
        const settled = async () => {{ while (!page.settled) await new Promise((go) => setTimeout(go, 5)); }};
        const act = async (what) => {{ page.settled = false; what(); await settled(); }};
        const found = {{ rows: {json.dumps(CASES[name])}.map((each) => page.rows(each)), answers: [] }};
        const edge = document.querySelector('.edge[data-edge="{edge}"]'), answer = document.getElementById("answer");
        const curve = () => document.querySelector("#readout path:not(.before)").getAttribute("d");
        const press = (on, key) => on.dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
        await settled();
        const steps = [
          () => edge.dispatchEvent(new MouseEvent("click", {{ bubbles: true }})), () => press(edge, "Enter"),
          () => press(edge, " "), () => document.getElementById("restore").click(),
          () => press(document.getElementById("canvas"), " "), () => press(document.getElementById("canvas"), "Delete"),
        ];
        found.before = [curve(), answer.textContent];
        for (const step of steps) {{
          await act(step);
          found.answers.push([curve(), edge.getAttribute("aria-checked"), document.getElementById("canvas-text").textContent]);
        }}
        found.tabs = [...document.querySelectorAll(".edge")].map((each) => [each.tabIndex, each.getAttribute("role"), each.getAttribute("aria-label")]);
        found.milliseconds = page.milliseconds;
        found.requests = performance.getEntriesByType("resource").length;
        return found;
    """
    found = in_page(path, body)
    for case, rows in zip(CASES[name], found["rows"], strict=True):
        assert largest_difference(net, options, images, case, rows) < 1e-5, case
    cut, closed, again, restored, covered, clean = found["answers"]
    first = found["before"][0]
    assert [each[1] for each in (cut, closed, again, restored)] == ["false", "true", "false", "true"]
    assert cut[0] != first and closed[0] == first and again[0] == cut[0] and restored[0] == first
    assert "covered by you" in covered[2] and covered[0] != first and clean[0] == first and clean[2] == "Digit 2"
    assert len(found["tabs"]) == len(net.projections) and found["requests"] == 0
    assert all(index == 0 and role == "switch" and " to " in label for index, role, label in found["tabs"])


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("name", ["pcn_global", "leaky_rcnn"])
def test_page_of_other_models_equals_pcsim(name: str, tmp_path: Path) -> None:
    net, options, images, path = written(name, tmp_path)
    for case, rows in zip(CASES[name], in_page(path, f"return {json.dumps(CASES[name])}.map(page.rows)"), strict=True):
        assert largest_difference(net, options, images, case, rows) < 1e-5, case


@pytest.mark.slow
@needs_browser
def test_page_of_trained_blt_equals_pcsim(tmp_path: Path) -> None:
    net = models.build("blt", weights="debris-light")
    images = torch.rand(2, 1, 32, 32)
    plots.export_page(net, tmp_path / "blt.html", images)
    rows = in_page(tmp_path / "blt.html", f"return {json.dumps(CASES['blt'])}.map(page.rows)")
    for case, found in zip(CASES["blt"], rows, strict=True):
        assert largest_difference(net, {}, images, case, found) < 1e-4, case


def test_temporary_lesion_is_closed_during_its_window() -> None:
    net, _ = network("blt")
    image = torch.rand(1, 1, 12, 12)
    made = lower(net.without("top_down", during=(2, 3)), Iterate(), 4, ["readout"], image, decompositions())
    assert made.closed == {"l1->l1": [(0, 1)], "l2->l2": [(0, 1)], "l2->l1": [(0, 1), (2, 3)]}
    flow = net.as_ode(10.0).without("lateral", during=(5.0, 12.0))
    made = lower(flow, Euler(dt=1.0), 40, ["readout"], image, decompositions())
    assert made.closed == {"l1->l1": [(5, 12)], "l2->l2": [(5, 12)]} and made.taus == {"l1": [10.0], "l2": [10.0]}


def test_page_is_one_file_without_addresses(tmp_path: Path) -> None:
    *_, path = written("blt", tmp_path)
    text = path.read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) and "{{" not in text
    assert "default-src 'none'" in text and path.stat().st_size < 200_000
    net, _ = network("blt")
    plots.export_page(net, path, torch.rand(1, 1, 12, 12), continuous=False)  # a page may be replaced
    assert path.read_text() != text
    (tmp_path / "other.html").write_text("mine")
    with pytest.raises(StorageError):
        plots.export_page(net, tmp_path / "other.html", torch.rand(1, 1, 12, 12), continuous=False)


def test_networks_that_a_page_cannot_run_are_refused(tmp_path: Path) -> None:
    path, image = tmp_path / "page.html", torch.rand(1, 1, 12, 12)
    net, _ = network("blt")
    refused = {
        "on one axis: readout": (net, image, {"readout": "l1"}),
        "images .*shape": (net, torch.rand(1, 1, 8, 8), {}),
        "1 or 3 channels": (models.blt((2, 2), image=(2, 8, 8)), torch.rand(1, 2, 8, 8), {}),
        "this network has none": (models.predictive_coding(((1, 4, 4), (2, 2, 2))), torch.rand(1, 1, 4, 4), {}),
        "pixels from": (net, image - 0.5, {}),
        "labels": (net, image, {"labels": torch.tensor([1, 2])}),
        "active window": (models.rcnn((4,) * 4, image=(1, 8, 8), classes=3), torch.rand(1, 1, 8, 8), {}),
        "differs between steps": (models.rcnn_sat_bl((4, 5), kernels=(3, 1), image=(1, 8, 8), classes=3), torch.rand(1, 1, 8, 8), {}),
        "float64": (network("blt")[0].double(), image, {}),
        "500,000 parameters": (models.blt((150, 150), image=(1, 12, 12)), image, {}),
        "inputs": (models.predictive_coding(((1, 4, 4), (3,)), clamped=("r0", "r1")), torch.rand(1, 1, 4, 4), {}),
    }  # fmt: skip
    for message, (each, images, options) in refused.items():
        with pytest.raises((WiringError, StimulusError), match=message):
            plots.export_page(each, path, images, **options)
    assert not path.exists()


def test_names_and_titles_cannot_end_the_script(tmp_path: Path) -> None:
    net, _ = network("blt")
    net.name = "</script><b>"
    plots.export_page(net, tmp_path / "x.html", torch.rand(1, 1, 12, 12), continuous=False, about={"<i>": "</script>"})
    text = (tmp_path / "x.html").read_text()
    assert text.count("</script>") == 2 and "<b>" not in text and "<i>" not in text


def test_programs_of_a_page_share_their_constants() -> None:
    net, _ = network("blt")
    image, constants = torch.rand(1, 1, 12, 12), Constants()
    stored = []
    for each, solver in ((net, Iterate()), (net.as_ode(10.0), Euler(dt=1.0))):
        program(lower(each, solver, 4, ["readout"], image, decompositions()).step, constants)
        stored.append(len(constants.stored))
    assert stored[0] == stored[1] > 0
