"""Trained networks that ship with pcsim: files, cards, and `pcsim reproduce`."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import ROOT

from experiments.reproduce import RECIPES, cards, full_name, reproduce, science
from experiments.reproduce.digits import Digits, Supervised
from pcsim import StorageError, WiringError, models
from pcsim import __main__ as command
from pcsim.core import storage
from pcsim.training import Training

CARDS = models.weights.cards()
FRESH, IMAGES = 2_000_000, 200
TINY = Supervised(
    model="leaky_rcnn",
    options={"channels": (2, 2), "tau": (10.0, 20.0), "image": (1, 16, 16)},
    task="four updates, for this test",
    digits=Digits(fragments=2, spread=0.0, side=16),
    images=40,
    training=Training(updates=4, batch=5, over_time="mean"),
    tested=(0,),
    dt=10.0,
    test_dt=5.0,
    until=30.0,
    headline="accuracy, clean",
)


def network_of(card: dict[str, Any]) -> Any:
    return models.build(card["model"], weights=card["weights"])


def test_every_recipe_has_weights_and_card() -> None:
    assert set(CARDS) == set(RECIPES)
    assert {path.stem for path in (ROOT / "pcsim/models/trained").glob("*.json")} == set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_card_matches_file_and_network(name: str) -> None:
    card = CARDS[name]
    content = (ROOT / f"pcsim/models/trained/{name}.safetensors").read_bytes()
    assert len(content) == card["bytes"] < 1_000_000
    assert hashlib.sha256(content).hexdigest() == card["sha256"]
    assert network_of(card).parameter_count == card["parameters"]
    assert card["recipe"] == storage.plain(RECIPES[name]) and card["trained_on"] == RECIPES[name].task
    assert card["headline"] in card["scores"] and card["command"] == f"pcsim reproduce {name}"
    for row in card["scores"].values():
        assert row["low"] <= row["mean"] <= row["high"] and row["n"] == card["data"]["test_count"]
        assert list(row["seeds"]) == [str(seed) for seed in (card["seed"], *card["other_seeds"])]
        assert row["seeds"][str(card["seed"])] == row["mean"]


@pytest.mark.parametrize("name", CARDS)
def test_scores_on_fresh_images_match_card(name: str) -> None:
    card = CARDS[name]
    found = science.score(RECIPES[name], network_of(card), IMAGES, FRESH)
    for score, row in card["scores"].items():
        half = 0.5 * (row["high"] - row["low"]) * (row["n"] / IMAGES) ** 0.5  # of the interval over 200 images
        allowed = row["tolerance"] + 2.0 * half + 3.0 / IMAGES * ("accuracy" in score or "falls" in score)
        assert found[score]["mean"] == pytest.approx(row["mean"], abs=allowed), score


def test_docs_table_matches_cards() -> None:
    assert cards.markdown() in (ROOT / "docs/models/README.md").read_text()


def test_predictive_networks_reduce_their_errors() -> None:
    """A recipe is only worth shipping if its prediction errors fall."""
    for score, row in CARDS["predictive_coding.digits"]["scores"].items():
        if score.startswith("energy"):
            assert row["mean"] > 0.99, score
    for score, row in CARDS["pcn_global.digits"]["scores"].items():
        if score.startswith("image error falls"):
            assert row["mean"] > 0.95, score


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ship weights and a card made with the tiny recipe; return the folder in which they were made."""
    cards.make("leaky_rcnn.tiny", TINY, [0, 1], tmp_path / "made", 20)
    monkeypatch.setattr(models.weights, "FOLDER", tmp_path / "made" / "weights")
    return tmp_path


def test_reproduce_agrees_and_resumes(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes = {"leaky_rcnn.tiny": TINY}
    assert reproduce("leaky_rcnn", tiny / "out", recipes)
    printed = capsys.readouterr().out
    assert re.search(r"accuracy, clean +0\.\d+ +0\.\d+", printed) and "all scores agree" in printed
    (tiny / "out" / "leaky_rcnn.tiny-0" / "scores-20.json").unlink()
    before = storage.read_json(tiny / "out" / "results.json")
    assert reproduce("leaky_rcnn.tiny", tiny / "out", recipes), "it resumes from its finished training"
    after = storage.read_json(tiny / "out" / "results.json")
    assert after["compared"] == before["compared"] and after["agrees"]
    with pytest.raises(StorageError, match="created with"):
        reproduce("leaky_rcnn", tiny / "out", {"leaky_rcnn.tiny": dataclasses.replace(TINY, images=41)})


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    """Return the main function of `pcsim`, which leaves the signals and streams of this process alone."""
    for name in ("program", "importing"):
        monkeypatch.setattr(command, name, nullcontext)
    return command.main


@pytest.mark.parametrize("wrong", [0.4, None])
def test_reproduce_exits_with_1_if_score_differs(
    wrong: float | None,
    tiny: Path,
    main: Callable[[list[str]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tiny / "made" / "weights" / "leaky_rcnn.tiny.json"
    card = storage.read_json(path)
    row = card["scores"]["accuracy, clean"]
    row |= {"mean": row["mean"] + (wrong or 0.0), "tolerance": 0.1}
    storage.write_json(path, card)
    monkeypatch.setitem(RECIPES, "leaky_rcnn.tiny", TINY)
    given = ["reproduce", "leaky_rcnn.tiny", "--out", str(tiny / "out")]
    if wrong is None:
        main(given)
    else:
        with pytest.raises(SystemExit) as status:
            main(given)
        assert status.value.code == 1
    assert ("DIFFERS" in capsys.readouterr().out) == (wrong is not None)


def test_tolerance_follows_spread_over_seeds() -> None:
    row = {"n": 100, "low": 0.4, "high": 0.5}
    assert cards.tolerance("e0", row, [1.0, 1.5, 1.2]) == 1.0
    assert cards.tolerance("e0", row, [1.0, 1.0, 1.01]) == pytest.approx(0.05)
    assert cards.tolerance("accuracy, clean", row | {"low": 1.0, "high": 1.0}, [1.0, 1.0]) == 0.03
    assert cards.tolerance("accuracy, 10 fragments", row, [0.5]) == 0.05


def test_full_name_completes_or_refuses() -> None:
    assert full_name("predictive_coding") == "predictive_coding.digits"
    with pytest.raises(StorageError, match=re.escape("blt.debris-light")):
        full_name("blt")
    with pytest.raises(WiringError, match="did you mean 'cornet_s"):
        full_name("cornet_s.debris")


def test_reproduce_command_lists_names(main: Callable[[list[str]], None], capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce"])
    assert set(RECIPES) <= set(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", ["predictive_coding.digits", "pcn_global.digits"])
def test_reproduce_to_the_end(name: str, tmp_path: Path) -> None:
    assert reproduce(name, tmp_path / "out")
    assert np.all([row["agrees"] for row in storage.read_json(tmp_path / "out/results.json")["compared"].values()])
