"""Networks in files: the same bits in another process, recipes, wiring that is checked, and nothing overwritten."""

from __future__ import annotations

import copy
import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.small import SMALL, shown, small, stepping
from torch import Tensor, nn

import pcsim
from pcsim import Euler, Network, Population, Projection, StorageError, models, simulate
from pcsim.core import storage
from pcsim.rules import FixedTau, LearnableTau, Rate

VARIANTS = ("as built", "as_ode", "without", "autocast", "double")


def variant(net: Network, kind: str) -> Network:
    memories = [*net.as_ode(10.0).memories]
    return {
        "as built": lambda: net,
        "as_ode": lambda: net.as_ode({name: torch.full(net.shape(name)[:1], 8.0) for name in memories}, step_ms=8.0),
        "without": lambda: net.without(net.projections[-1].name, during=(2, 4)).without(net.projections[0].kind),
        "autocast": lambda: net.autocast(torch.float16),
        "double": lambda: net.double(),
    }[kind]()


def values(net: Network, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    solver = Euler(dt=2.0) if net.is_flow else stepping(net)[0]
    inputs = {name: value.to(dtype) for name, value in shown(net, 2).items()}
    return simulate(net, inputs, solver=solver, steps=3, record=pcsim.Record(states="all")).values


def assert_same_bits(net: Network, other: Network) -> None:
    dtype = next((p.dtype for p in net.parameters()), torch.float32)
    own, theirs = values(net, dtype), values(other, dtype)
    assert own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own)


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("name", SMALL)
def test_registered_model_and_variant_round_trip_bitwise(name: str, kind: str, tmp_path: Path) -> None:
    net = variant(small(name), kind)
    net.save(tmp_path / "net")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    back = pcsim.load(tmp_path / "net")
    assert torch.equal(before, torch.get_rng_state())
    assert_same_bits(net, back)
    assert (back.name, back.training, back.recipe) == (net.name, net.training, back.recipe)
    for parameter, other in zip(net.parameters(), back.parameters(), strict=True):
        assert (parameter.dtype, parameter.stride()) == (other.dtype, other.stride())


@pytest.mark.parametrize("name", SMALL)
def test_copies_keep_the_recipe(name: str, tmp_path: Path) -> None:
    net = small(name).as_ode(10.0)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for back in (torch.load(file, weights_only=False), pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):  # noqa: S301
        assert (back.recipe.model, back.recipe.calls) == (net.recipe.model, net.recipe.calls)
        back.save(tmp_path / "net", overwrite=True)
        assert_same_bits(net, pcsim.load(tmp_path / "net"))


def test_network_answers_with_the_same_bits_in_another_process(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = models.leaky_rcnn((3, 4), tau=(10.0, 20.0), image=(1, 8, 8)).without("l2->l1", during=(4.0, 8.0))
    net.save(tmp_path / "net.pcsim")
    images = torch.rand(2, 1, 8, 8)
    torch.save(images, tmp_path / "images.pt")
    code = f"""
import torch, pcsim
net = pcsim.load({str(tmp_path / "net.pcsim")!r})
images = torch.load({str(tmp_path / "images.pt")!r})
torch.save(pcsim.simulate(net, images, solver=pcsim.RK4(1.0), until=20.0)["readout"], {str(tmp_path / "out.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    mine = simulate(net, images, solver=pcsim.RK4(1.0), until=20.0)["readout"]
    assert torch.equal(mine, torch.load(tmp_path / "out.pt"))


def test_unpickled_network_can_be_saved_in_a_fresh_process(tmp_path: Path) -> None:
    net = models.blt(channels=(2, 2), image=(1, 8, 8))
    torch.save(net, tmp_path / "net.pt")
    code = f"""
import torch
net = torch.load({str(tmp_path / "net.pt")!r}, weights_only=False)
net.save({str(tmp_path / "net.pcsim")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert_same_bits(net.eval(), pcsim.load(tmp_path / "net.pcsim"))


def test_modes_frozen_parameters_and_layout_come_back(tmp_path: Path) -> None:
    net = models.resnet18((4, 4, 8, 8), image=(2, 32, 32), classes=3).train()
    net.transforms.eval()
    first = next(net.parameters()).requires_grad_(False)
    first.data = first.data.contiguous()
    net.name = "mine"
    net.save(tmp_path / "net")
    back = pcsim.load(tmp_path / "net")
    assert [m.training for m in net.modules()] == [m.training for m in back.modules()]
    assert [p.requires_grad for p in net.parameters()] == [p.requires_grad for p in back.parameters()]
    assert next(back.parameters()).stride() == first.stride() and back.name == "mine"


def test_arguments_are_stored_as_they_were_at_the_call(tmp_path: Path) -> None:
    patterns = models.random_patterns(2, 20, seed=5)
    net = models.hopfield(patterns)
    taus = [10.0, 20.0]
    flow = models.leaky_rcnn((3, 4), tau=taus, image=(1, 8, 8))
    weights = net.transforms.state_dict()
    patterns.neg_().add_(3.0)
    taus[0] = 99.0
    net.save(tmp_path / "hopfield")
    flow.save(tmp_path / "flow")
    back = pcsim.load(tmp_path / "hopfield")
    assert all(torch.equal(value, back.transforms.state_dict()[key]) for key, value in weights.items())
    assert pcsim.load(tmp_path / "flow").rules["l1"].tau() == 10.0
    assert net.recipe.options["patterns"].abs().max() == 1.0


class Doubled(nn.Module):
    def __init__(self, gain: float = 2.0) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(1, 1, 3, padding=1), gain

    def forward(self, value: Tensor) -> Tensor:
        return self.gain * self.conv(value)


def own(
    gain: float = 2.0,
    padding: int = 1,
    activation: str = "relu",
    tau: object = 10.0,
    delay: float = 2.0,
    **options: object,
) -> Network:
    populations = [
        Population("a", pcsim.rules.Leaky(Rate(1, activation), tau)),
        Population("b", pcsim.rules.Leaky(Rate(2), 5.0)),
    ]
    edges = [
        Projection("x", "a", Doubled(gain)),
        Projection("a", "b", nn.Conv2d(1, 2, 2 * padding + 1, padding=padding), delay_ms=delay),
        Projection("b", "a", nn.Conv2d(2, 1, 1), kind="top_down"),
    ]
    return Network({"x": (1, 6, 6)}, populations, edges, **{"readout": "b", "name": "mine", **options})


def test_own_network_is_filled_if_its_wiring_is_the_same(tmp_path: Path) -> None:
    net, other = own(), own()
    net.save(tmp_path / "net")
    with pytest.raises(StorageError, match="not built by a registered model") as raised:
        pcsim.load(tmp_path / "net")
    assert "pcsim.load(path, into=net)" in raised.value.remedy
    assert pcsim.load(tmp_path / "net", into=other) is other
    assert_same_bits(net, other)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"gain": 3.0}, "edge 'x->a': transform gain is 2.0 in the file and 3.0 in this network"),
        ({"padding": 2}, "edge 'a->b': transform kernel_size is [3, 3] in the file and [5, 5] in this network"),
        ({"activation": "tanh"}, "population 'a': rule rule"),
        ({"tau": 20.0}, "population 'a': rule tau value is 10.0 in the file and 20.0 in this network"),
        ({"tau": torch.tensor([20.0])}, "population 'a': rule tau"),
        ({"tau": LearnableTau(1, 5.0, 20.0)}, "population 'a': rule tau class is \"FixedTau\" in the file"),
        ({"delay": 3.0}, "edge 'a->b': delay_ms value is 2.0 in the file and 3.0 in this network"),
        ({"readout": "a"}, 'readout is "b" in the file and "a" in this network'),
        ({"step_ms": 5.0}, "step_ms is 10.0 in the file and 5.0 in this network"),
    ],
)
def test_difference_in_wiring_is_named(changed: dict[str, object], words: str, tmp_path: Path) -> None:
    net, other = own(), own(**changed)
    net.save(tmp_path / "net")
    before = [parameter.clone() for parameter in other.parameters()]
    with pytest.raises(StorageError) as raised:
        pcsim.load(tmp_path / "net", into=other)
    assert words in raised.value.given
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def test_variants_and_dtypes_of_own_networks_differ(tmp_path: Path) -> None:
    own().save(tmp_path / "net")
    for other, words in (
        (own().without("top_down"), "edge 'b->a': lesioned"),
        (own().as_ode({"a": 7.0, "b": 5.0}), "rule tau value is 10.0 in the file and 7.0"),
        (own().clamped("a"), "population 'a' is only in the file"),
        (own().autocast(), 'compute_dtype is null in the file and "torch.bfloat16"'),
        (own().double(), 'dtype is "float32" in the file and "float64"'),
    ):
        with pytest.raises(StorageError) as raised:
            pcsim.load(tmp_path / "net", into=other)
        assert words in raised.value.given


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "steps", 99),
        lambda net: setattr(net, "readout", "l2"),
        lambda net: setattr(net.transforms["l1_to_l2"], "0", nn.AvgPool2d(2)),
        lambda net: net.rules.__setitem__("l1", Rate(3, "tanh")),
        lambda net: net.rules["l1"].register_parameter("more", nn.Parameter(torch.ones(2))),
    ],
)
def test_registered_model_changed_by_hand_is_an_own_network(change: object, tmp_path: Path) -> None:
    net = models.blt(channels=(3, 3), image=(1, 8, 8))
    change(net)
    net.save(tmp_path / "net")
    with pytest.raises(StorageError, match="changed after it was built"):
        pcsim.load(tmp_path / "net")
    with pytest.raises(StorageError, match="differ"):
        pcsim.load(tmp_path / "net", into=models.blt(channels=(3, 3), image=(1, 8, 8)))
    assert pcsim.load(tmp_path / "net", into=copy.deepcopy(net)).name == "blt"


def test_argument_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    build = lambda: models.leaky_rcnn((3, 4), tau=[LearnableTau(3, 5.0, 20.0), FixedTau(20.0)], image=(1, 8, 8))  # noqa: E731
    net, other = build(), build()
    net.save(tmp_path / "net")
    with pytest.raises(StorageError, match="argument 'tau'"):
        pcsim.load(tmp_path / "net")
    assert_same_bits(net, pcsim.load(tmp_path / "net", into=other))


def test_registered_model_fills_another(tmp_path: Path) -> None:
    net, other = models.blt(channels=(3, 3), image=(1, 8, 8)), models.blt(channels=(3, 3), image=(1, 8, 8))
    net.save(tmp_path / "net")
    assert_same_bits(net, pcsim.load(tmp_path / "net", into=other))
    with pytest.raises(StorageError, match="tensor"):
        pcsim.load(tmp_path / "net", into=models.blt(channels=(4, 4), image=(1, 8, 8)))


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    net, path = models.blt(channels=(2, 2), image=(1, 8, 8)), tmp_path / "net"
    net.save(path)
    content = path.read_bytes()
    with pytest.raises(StorageError, match="overwrite=True"):
        models.blt(channels=(2, 2), image=(1, 8, 8)).save(path)
    assert path.read_bytes() == content
    net.double().save(str(path), overwrite=True)
    assert next(pcsim.load(path).parameters()).dtype == torch.float64
    (tmp_path / "mine.run").write_text("mine")
    with pytest.raises(StorageError, match="not written by pcsim"):
        net.save(tmp_path / "mine.run", overwrite=True)


def test_network_on_the_meta_device_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = models.blt(channels=(2, 2))
    with pytest.raises(StorageError, match="meta"):
        net.save(tmp_path / "net")


def test_unknown_model_and_other_kinds_are_refused(tmp_path: Path) -> None:
    models.blt(channels=(2, 2), image=(1, 8, 8)).save(tmp_path / "net")
    tensors, facts = storage.read_tensors(tmp_path / "net", "network")
    for changed, words in (
        ({"recipe": facts["recipe"] | {"model": "blt_z"}}, "blt_z"),
        ({"recipe": facts["recipe"] | {"calls": [["save", {"dict": []}]]}}, "the variant 'save'"),
        ({"recipe": facts["recipe"] | {"options": {"settings": ["os:system", []]}}}, "settings class"),
        ({"wiring": facts["wiring"] | {"steps": 3}, "fingerprint": "0"}, "steps is 3 in the file and 4"),
    ):
        storage.write_tensors(tmp_path / "other", tensors, json.loads(json.dumps({**facts, **changed})))
        with pytest.raises(pcsim.PcsimError, match=words):
            pcsim.load(tmp_path / "other")
    run = simulate(models.blt(channels=(2, 2), image=(1, 8, 8)), torch.rand(1, 1, 8, 8), solver=pcsim.Iterate())
    run.save(tmp_path / "run")
    assert torch.equal(pcsim.load(tmp_path / "run")["readout"], run["readout"])
    with pytest.raises(StorageError, match="a file of kind 'run'"):
        pcsim.load(tmp_path / "run", into=models.blt(channels=(2, 2)))
    for name, reader in (("a.nc", "xarray"), ("a.csv", "pandas"), ("a.nwb", "pynwb")):
        with pytest.raises(StorageError, match=reader):
            pcsim.load(tmp_path / name)
