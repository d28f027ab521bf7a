"""Predictive models: published sizes, foreign weights, closed loop, relative errors, retrofit, invalid input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import pcsim
from pcsim import Iterate, Network, Record, StorageError, WiringError, models, simulate, stimuli
from pcsim.connections import Adjoint, conv, up_conv
from pcsim.dynamics import largest_eigenvalue
from pcsim.training import Training, loss_over_time, train


def count(net: Network) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # Shi et al. 2015, table 1, where each channel has one peephole weight
        ({"channels": (256,)}, 13_524_496),
        ({"channels": (128, 128)}, 10_042_896),
        ({"channels": (128, 64, 64)}, 7_585_296),
        ({"channels": (128, 128), "kernel": 1, "input_kernel": 9}, 11_550_224),
        ({"channels": (128, 64, 64), "kernel": 1, "input_kernel": 9}, 8_830_480),
    ],
)
def test_convlstm_parameter_count_matches_published(options: dict, expected: int) -> None:
    assert count(models.convlstm(**options)) == expected


@pytest.mark.parametrize(
    ("architecture", "classes", "with_cycles", "plain"),
    [("C", 10, 4.913, 2.588), ("C", 100, 4.936, 2.611), ("D", 10, 9.898, 5.213), ("D", 100, 9.944, 5.259)],
)
def test_pcn_local_parameter_count_matches_published(
    architecture: str, classes: int, with_cycles: float, plain: float
) -> None:
    for cycles, expected in ((5, with_cycles), (0, plain)):
        assert round(count(models.pcn_local(architecture, cycles, classes=classes)) / 1e6, 3) == expected


def test_pcn_local_e_and_pcn_global_sizes_match_published() -> None:
    large = models.pcn_local("E", 3, image=(3, 224, 224), classes=1000)
    assert round(count(large) / 1e6, 3) == 17.263 and large.shape("out11")[1:] == (7, 7)
    assert round(count(models.pcn_local("E", 0, image=(3, 224, 224), classes=1000)) / 1e6, 3) == 9.335
    for classes, untied, tied in ((10, 4.653, 2.329), (100, 4.677, 2.352)):
        assert round(count(models.pcn_global(classes=classes)) / 1e6, 3) == untied
        assert round(count(models.pcn_global(tied=True, classes=classes)) / 1e6, 3) == tied
    assert [models.pcn_global().shape(f"r{k}")[1] for k in range(1, 9)] == [32, 32, 16, 16, 8, 8, 8, 8]


def test_pcn_global_without_cycles_equals_initial_state() -> None:
    torch.manual_seed(3)
    plain = models.pcn_global((4, 5), (2,), 0, image=(1, 8, 8))
    torch.manual_seed(3)
    looped = models.pcn_global((4, 5), (2,), 2, image=(1, 8, 8))
    image = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        start = pcsim.initial_state(looped, {"image": image})
    run = simulate(plain, image, solver=Iterate(), record=Record(states=["r1", "r2"]))
    assert torch.equal(run["r1"][0], start["r1"]) and torch.equal(run["r2"][0], start["r2"])


# ---------------------------------------------------------------------- weights from other code


def libilab_names(channels: tuple[int, ...], tied: bool) -> dict[str, torch.Tensor]:
    """Return a state dict of random values with the authors' names."""
    tensors, below = {}, (2, *channels)
    for k, (fewer, more) in enumerate(zip(below, channels, strict=False)):
        if tied:
            tensors[f"conv.{k}.weights"] = torch.randn(more, fewer, 3, 3)
        else:
            tensors[f"FFconv.{k}.conv2d.weight"] = torch.randn(more, fewer, 3, 3)
            tensors[f"FBconv.{k}.convtranspose2d.weight"] = torch.randn(more, fewer, 3, 3)
        tensors[f"b0.{k}"] = torch.rand(1, more, 1, 1)
        if k:
            tensors[f"a0.{k - 1}"] = torch.rand(1, fewer, 1, 1)
    return tensors | {"linear.weight": torch.randn(3, channels[-1]), "linear.bias": torch.randn(3)}


@pytest.mark.parametrize("tied", [False, True])
def test_libilab_weights_load_into_matching_edges(tied: bool) -> None:
    net = models.pcn_global((4, 5, 6), (2,), 2, tied=tied, image=(2, 8, 8), classes=3)
    theirs = libilab_names((4, 5, 6), tied)
    models.published.load(net, theirs, models.published.libilab_pcn)
    layer = {e.name: next(e.transform.parameters(), None) for e in net.projections}
    up, down = ("conv.1.weights",) * 2 if tied else ("FFconv.1.conv2d.weight", "FBconv.1.convtranspose2d.weight")
    assert torch.equal(layer["e1->r2"], theirs[up]) and torch.equal(layer["prior2->p1"], theirs[down])
    assert torch.equal(net.populations["prior1"].rule.rate.weight, theirs["a0.0"].flatten())
    assert torch.equal(net.populations["r3"].rule.rate.weight, theirs["b0.2"].flatten())
    with pytest.raises(StorageError, match=r"without a0\.0"):
        models.published.load(net, {k: v for k, v in theirs.items() if k != "a0.0"}, models.published.libilab_pcn)
    with pytest.raises(StorageError, match="with extra"):
        models.published.load(net, theirs | {"extra": torch.zeros(1)}, models.published.libilab_pcn)


def test_prednet_with_port_weights_gives_port_predictions() -> None:
    """The port computes each gate by a single convolution over [R, E, up(R above)]."""
    sizes = (2, 3, 4)
    theirs: dict[str, torch.Tensor] = {}
    for k, n in enumerate(sizes):
        inside = 3 * n + (sizes[k + 1] if k < 2 else 0)
        for gate in "ifco":
            theirs |= {f"{gate}.{k}.weight": 0.3 * torch.randn(n, inside, 3, 3), f"{gate}.{k}.bias": torch.randn(n)}
        theirs |= {f"Ahat.{2 * k}.weight": torch.randn(n, n, 3, 3), f"Ahat.{2 * k}.bias": torch.randn(n)}
        if k < 2:
            theirs |= {f"A.{2 * k}.weight": torch.randn(sizes[k + 1], 2 * n, 3, 3)}
            theirs |= {f"A.{2 * k}.bias": torch.randn(sizes[k + 1])}
    net = models.prednet(sizes, image=(sizes[0], 8, 8))
    models.published.load(net, theirs, models.published.zcrwind_prednet)
    frames = torch.rand(4, 2, 2, 8, 8)
    run = simulate(net, stimuli.sequence(frames, every=10.0), solver=Iterate(), record=Record(states=["p0", "r2"]))

    def through(name: str, value: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(value, theirs[f"{name}.weight"], theirs[f"{name}.bias"], padding=1)

    r = [torch.zeros(2, n, 8 >> k, 8 >> k) for k, n in enumerate(sizes)]
    c, e = [value.clone() for value in r], [torch.cat([value, value], 1) for value in r]
    for step, frame in enumerate(frames):
        for k in (2, 1, 0):
            above = [nn.functional.interpolate(r[k + 1], scale_factor=2)] if k < 2 else []
            z = torch.cat([r[k], e[k], *above], 1)
            i, f, o = ((0.2 * through(f"{gate}.{k}", z) + 0.5).clamp(0, 1) for gate in "ifo")
            c[k] = f * c[k] + i * torch.tanh(through(f"c.{k}", z))
            r[k] = o * torch.tanh(c[k])
        target = frame
        for k in range(3):
            p = torch.relu(through(f"Ahat.{2 * k}", r[k]))
            p = p.clamp(max=1.0) if k == 0 else p
            if k == 0:
                assert torch.allclose(run["p0"][step], p, atol=1e-4)
            e[k] = torch.cat([torch.relu(p - target), torch.relu(target - p)], 1)
            if k < 2:
                target = nn.functional.max_pool2d(torch.relu(through(f"A.{2 * k}", e[k])), 2)
        assert torch.allclose(run["r2"][step], r[2], atol=1e-4)


# ---------------------------------------------------------------------- behaviour


def test_prednet_first_prediction_ignores_frames() -> None:
    net = models.prednet((1, 2, 3), image=(1, 8, 8))
    nn.init.constant_(net.populations["p0"].rule.bias, 0.2)
    one, other = torch.rand(2, 3, 2, 1, 8, 8)
    first = [
        simulate(net, stimuli.sequence(frames, every=10.0), solver=Iterate(), record=Record(states=["p0"]))["p0"]
        for frames in (one, other)
    ]
    assert torch.equal(first[0][0], first[1][0]) and not torch.equal(first[0][1], first[1][1])


def test_predict_closed_loop_ignores_later_frames() -> None:
    net = models.prednet((1, 2, 3), image=(1, 8, 8))
    nn.init.constant_(net.populations["p0"].rule.bias, 0.2)
    frames = torch.rand(6, 2, 1, 8, 8)
    changed = torch.cat([frames[:3], torch.rand(3, 2, 1, 8, 8)])
    record = Record(states=["p0", "e0"])
    runs = [
        pcsim.predict(net, shown.transpose(0, 1), closed_loop_from=3, record=record).run for shown in (frames, changed)
    ]
    assert torch.equal(runs[0]["p0"], runs[1]["p0"]) and (runs[0]["e0"][3:] == 0).all()
    assert (runs[0]["e0"][:3] != 0).any()


def test_relative_errors_are_normalised_by_target() -> None:
    net = models.pcn_global((4, 5), (), 3, image=(1, 6, 6))
    image = torch.rand(2, 1, 6, 6)
    record = Record(states=["e0", "e1", "r1"], errors="all", relative=True)
    run = simulate(net, image, solver=Iterate(), record=record)
    square = {name: run[name].flatten(2).square().sum(2) for name in ("e0", "e1", "r1")}
    assert torch.allclose(run.relative_errors["e0"], square["e0"] / image.flatten(1).square().sum(1))
    assert torch.allclose(run.relative_errors["e1"], square["e1"] / square["r1"])
    assert torch.allclose(run.errors["e0"], square["e0"] / 36)


def test_reconstruction_loss_is_mean_relative_error() -> None:
    net = models.pcn_global((4, 5), (), 3, image=(1, 6, 6))
    image, target = torch.rand(2, 1, 6, 6), torch.eye(10)[:2]
    losses = [
        float(loss_over_time(net, image, target, Training(reconstruction=weight), Iterate(), 3).detach())
        for weight in (0.0, 0.5)
    ]
    run = simulate(net, image, solver=Iterate(), record=Record(errors="all", relative=True))
    expected = 0.5 * torch.stack(list(run.relative_errors.values())).mean()
    assert losses[1] - losses[0] == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(pcsim.TrainingError, match="no prediction errors"):
        train(
            models.blt(channels=(2, 2)),
            torch.rand(2, 1, 32, 32),
            target,
            Training(updates=1, batch=2, reconstruction=0.1),
        )


def test_largest_eigenvalue_matches_eigvalsh(float64: None) -> None:
    matrix = torch.randn(12, 12)
    matrix = matrix @ matrix.T
    found = largest_eigenvalue(lambda value: value @ matrix, (12,))
    assert found == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-9)


# ---------------------------------------------------------------------- retrofit


def stages() -> list[nn.Sequential]:
    return [
        nn.Sequential(conv(1, 4), nn.BatchNorm2d(4), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(2), conv(4, 6), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(6 * 16, 5), nn.ReLU()),
    ]


@pytest.mark.parametrize("collect", [list, nn.ModuleList, lambda parts: nn.Sequential(*parts)])
def test_retrofit_starts_as_original_and_leaves_it_unchanged(collect: Callable[..., nn.ModuleList]) -> None:
    parts, head = collect(stages()), nn.Linear(5, 3)
    for part in parts:
        part.eval()
    image = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        expected = head(parts[2](parts[1](parts[0](image))))
    net = models.retrofit(parts, (1, 8, 8), head=head)
    with torch.no_grad():
        start = pcsim.initial_state(net, {"image": image})
    assert torch.allclose(head(start["r3"]), expected, atol=1e-6)
    kept = models.retrofit(parts, (1, 8, 8), head=head, feed_forward=0.999, feedback=0.0005, correction=0.0)
    run = simulate(kept, image, solver=Iterate(), record=Record(states=["readout"], errors="all"))
    assert torch.allclose(run["readout"][-1], expected, atol=0.05), (
        "at a feed-forward share of 0.999 the readout must stay near the original"
    )
    assert set(run.errors) == {"e0", "e1", "e2"} and run.errors["e0"].shape == (5, 4)
    assert not any(module.training for part in parts for module in part.modules())


def test_retrofit_is_per_sample_and_all_parameters_learn() -> None:
    net = models.retrofit([part.eval() for part in stages()], (1, 8, 8))
    image = torch.rand(6, 1, 8, 8)
    whole = simulate(net, image, solver=Iterate())["readout"]
    alone = simulate(net, image[:1], solver=Iterate())["readout"]
    assert torch.allclose(whole[:, :1], alone, atol=1e-6)
    *_, (_, values) = pcsim.rollout(net, image, Iterate(), 4, ["readout", "e0", "e1", "e2"])
    sum(value.square().sum() for value in values.values()).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_retrofit_correction_lowers_error_of_area_below() -> None:
    """With feed-forward and feedback input nearly off, memory and correction reduce the image's prediction error."""
    torch.manual_seed(0)
    net = models.retrofit(
        [part.eval() for part in stages()[:1]], (1, 8, 8), feed_forward=1e-6, feedback=1e-6, correction=0.3, steps=30
    )
    run = simulate(net, torch.rand(4, 1, 8, 8), solver=Iterate(), record=Record(errors="all"))
    assert (run.errors["e0"].diff(dim=0) < 0).all() and (run.errors["e0"][-1] < 0.7 * run.errors["e0"][0]).all()


@pytest.mark.parametrize("kernel", [3, 4])
def test_adjoint_is_transpose_of_convolution(kernel: int, float64: None) -> None:
    forward = up_conv(3, 2, kernel, 2, bias=True)
    back = Adjoint(forward, (3, 4, 4), scale=2.0)
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 8, 8)
    linear = forward(x) - forward(torch.zeros_like(x))
    assert torch.allclose(2.0 * (linear * y).sum(), (x * back(y)).sum())


# ---------------------------------------------------------------------- invalid input

MISTAKES: dict[str, tuple[Callable[[], object], str, str]] = {
    "pcn: pooled": (lambda: models.pcn_global((4, 4), (3,)), "pooled=(3,) for 2 layers", "pooled=()"),
    "pcn: order": (lambda: models.pcn_global((4,), (), order="jacobi"), "'jacobi'", "order='sequential'"),
    "pcn local: architecture": (lambda: models.pcn_local("A"), "'A'", "Architecture(channels, pooled)"),
    "pcn local: size": (lambda: models.pcn_local(image=(3, 30, 30)), "30x30", "crop or pad"),
    "pcn local: variant": (lambda: models.pcn_local(variant="keras"), "'keras'", "variant='published'"),
    "prednet: size": (lambda: models.prednet(image=(1, 60, 64)), "60x64", "use fewer layers"),
    "prednet: cell": (lambda: models.prednet(cell="gru"), "'gru'", "cell='convlstm'"),
    "convlstm: patch": (lambda: models.convlstm(patch=5), "patch=5", "patch=4"),
    "lstm: full without size": (lambda: pcsim.rules.LSTM(3, "full"), "size=None", "size=(height, width)), or"),
    "lstm: other size": (
        lambda: Network(
            {"u": (8, 4, 4)},
            [pcsim.Population("h", pcsim.rules.LSTM(2, "full", (5, 5)))],
            [pcsim.Projection("u", "h")],
        ),
        "(4, 4) for full peepholes of size (5, 5)",
        "peephole='channel'",
    ),
    "lstm: gates": (
        lambda: Network({"u": (7,)}, [pcsim.Population("h", pcsim.rules.SubLSTM(2))], [pcsim.Projection("u", "h")]),
        "receives 7 channels",
        "8 output channels",
    ),
    "sublstm: no units": (lambda: models.sublstm(0), "units=0", "units=50"),
    "coding: one layer": (lambda: models.predictive_coding(((3,),)), "1 layers", "tau=10.0 and precision=1.0"),
    "coding: precision": (
        lambda: models.predictive_coding(((3,), (2,)), precision=0.0),
        "precisions [0.0]",
        "positive precision",
    ),
    "coding: sizes": (
        lambda: models.predictive_coding(((1, 8, 8), (2, 3, 3))),
        "(2, 3, 3)",
        "halve height and width",
    ),
    "coding: start": (lambda: models.predictive_coding(start="predictions"), "not clamped", "add 'r2' to clamped"),
    "coding: slope": (
        lambda: models.predictive_coding(activation="elu"),
        "'elu' in a gradient flow",
        "activation='tanh'",
    ),
    "coding: where f is": (
        lambda: models.predictive_coding(nonlinearity="around"),
        "'around'",
        "nonlinearity='inside'",
    ),
    "coding: through": (
        lambda: models.predictive_coding(activation="elu", nonlinearity="outside"),
        "through 'elu'",
        "nonlinearity='inside'",
    ),
    "clamp of nothing": (lambda: models.predictive_coding().clamped("r9"), "clamped populations r9", "net.describe()"),
    "hopfield: patterns": (lambda: models.hopfield(torch.rand(3, 5)), "patterns of shape (3, 5)", "pass 2.0 *"),
    "hopfield: mode": (lambda: models.hopfield(mode="random"), "mode='random'", "mode='asynchronous'"),
    "retrofit: shares": (
        lambda: models.retrofit(stages(), (1, 8, 8), feed_forward=0.8, feedback=0.3),
        "feed_forward=0.8",
        "feed_forward=0.33",
    ),
    "retrofit: one module": (
        lambda: models.retrofit(conv(1, 4), (1, 8, 8)),
        "a Conv2d",
        "nn.Sequential",
    ),
    "retrofit: predictors": (
        lambda: models.retrofit(stages(), (1, 8, 8), predictors=[conv(4, 1)]),
        "3 stages, 1 predictors",
        "with 3 modules",
    ),
    "retrofit: shape": (
        lambda: models.retrofit(stages()[:1], (1, 8, 8), predictors=[conv(4, 2)]),
        "(2, 8, 8)",
        "the shape of the area below",
    ),
    "retrofit: nonlinear": (
        lambda: models.retrofit(stages()[:1], (1, 8, 8), predictors=[nn.Sequential(conv(4, 1), nn.ReLU())]),
        "not affine",
        "remove nonlinearities",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_predictive_model_mistake_names_value_and_remedy(name: str) -> None:
    make, given, remedy = MISTAKES[name]
    with pytest.raises(WiringError) as caught:
        make()
    assert given in str(caught.value) and remedy in str(caught.value), caught.value


def test_hebbian_centred_matches_outer_products(float64: None) -> None:
    patterns = torch.where(torch.rand(5, 40) < 0.2, 1.0, -1.0)
    expected = np.zeros((40, 40))
    for xi in patterns.numpy() - float(patterns.mean()):
        expected += np.outer(xi, xi) / 40
    np.fill_diagonal(expected, 0)
    assert np.allclose(models.hebbian(patterns, centred=True).numpy(), expected, atol=1e-12)
