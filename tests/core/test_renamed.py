"""Old public names raise exceptions with the new names, and CHANGELOG.md lists them all."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter

import pytest
from support.paths import ROOT

import pcsim
from pcsim.core import renamed
from pcsim.core.exceptions import PcsimError


def resolved(name: str) -> object:
    """Return the object with a dotted name, importing the modules on the way."""
    module, _, last = name.rpartition(".")
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return getattr(resolved(module), last)


@pytest.mark.parametrize("old", renamed.NAMES)
def test_old_name_raises_with_new_name(old: str) -> None:
    new = renamed.NAMES[old]
    assert resolved(new) is not None
    with pytest.raises(renamed.RenamedError, match=rf"remedy: write {re.escape(new)}$"):
        attrgetter(old.removeprefix("pcsim."))(pcsim)
    module, _, last = old.rpartition(".")
    if hasattr(import_module(module), "__path__"):
        for statement in (f"import {old}", f"from {module} import {last}", f"from {old} import x"):
            with pytest.raises(PcsimError, match=re.escape(new)):
                exec(statement, {})


def test_old_attributes_of_networks_raise_with_new_name() -> None:
    net = pcsim.models.leaky_rcnn((2, 3), tau=(10.0, 20.0), size=8)
    for old, new in renamed.ATTRIBUTES.items():
        owner, name = old.split(".")
        assert owner == "Network" and resolved(new if new.startswith("pcsim.") else f"pcsim.{new}")
        with pytest.raises(renamed.RenamedError, match=new):
            getattr(net, name)
    assert not hasattr(net, "relaxed") and not hasattr(pcsim, "storage") and not hasattr(net, "nothing")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pcsim.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("call", "old", "new"),
    [
        (lambda **old: pcsim.Population("a", None, (1,), **old), "copies", "starts_from"),
        (lambda **old: pcsim.Projection("a", "b", "lateral", None, **old), "precision", "compute_dtype"),
        (lambda **old: pcsim.stimuli.turns(None, 1.0, **old), "sweeps", "rounds"),
        (lambda **old: pcsim.predict(None, None, **old), "extrapolate_from", "closed_loop_from"),
        (lambda **old: pcsim.models.convlstm(**old), "seen", "input_frames"),
        (lambda **old: pcsim.models.convlstm(**old), "unseen", "output_frames"),
    ],
)
def test_old_option_raises_with_new_name(call: object, old: str, new: str) -> None:
    assert renamed.OPTIONS[old] == new
    with pytest.raises(PcsimError, match=f"remedy: write {new}=..."):
        call(**{old: 1})


def test_changelog_lists_all_renamed_names() -> None:
    release = (ROOT / "CHANGELOG.md").read_text().split("\n## ")[1]
    assert release.startswith(f"[{pcsim.__version__}]")
    rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", release, re.M))
    table = renamed.NAMES | renamed.ATTRIBUTES | {f"{old}=": f"{new}=" for old, new in renamed.OPTIONS.items()}
    assert {old: new for old, new in rows.items() if old in table} == table
