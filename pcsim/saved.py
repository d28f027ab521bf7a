"""Loading of files written by pcsim: networks and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast, overload

import pcsim.models  # noqa: F401 - registers the models named in files
from pcsim.core import storage
from pcsim.core.checks import checked
from pcsim.core.exceptions import StorageError
from pcsim.network import Network
from pcsim.network.saving import KIND, SavedNetwork
from pcsim.simulation import Run

READERS = {
    ".nc": "xarray.open_dataset(path)",
    ".csv": "pandas.read_csv(path)",
    ".mat": "scipy.io.loadmat(path)",
    ".nwb": "pynwb.NWBHDF5IO(path).read()",
}


@overload
def load(path: str | Path, into: Network) -> Network: ...


@overload
def load(path: str | Path, into: None = None) -> Any: ...


@checked(StorageError)
def load(path: str | Path, into: Network | None = None) -> Network | Run:
    """Load a network saved with `net.save`, or a run saved with `run.save`.

    A registered model is rebuilt with the same tensors, dtype, mode and variants. For any other network, pass as `into`
    a network with the same wiring; the weights are loaded into it and it is returned.

    Raises StorageError if the file is missing, damaged or of another kind, if `into` is required but missing, or if its
    wiring differs from that of the saved network; the message lists the differences.

        net.save("net.pcsim")
        net = pcsim.load("net.pcsim")
    """
    if (reader := READERS.get(storage.full_path(path).suffix)) is not None:
        raise StorageError(
            given=f"{path}, an export to another format",
            expected="a file written by net.save(), or by run.save() in pcsim's own format",
            remedy=f"read it with {reader}",
        )
    tensors, facts = storage.read_tensors(path, *([KIND] if into is not None else [KIND, "run"]))
    if facts["kind"] == "run":
        return Run.restored(str(path), tensors, facts)
    saved = SavedNetwork(str(path), tensors, facts)
    return cast(Network, saved.rebuild() if into is None else saved.fill(into))
