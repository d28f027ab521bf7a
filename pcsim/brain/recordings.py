"""Neural recordings as labelled arrays (presentation, neuroid, time_bin), in the format of Brain-Score.

    recorded = load("dicarlo.MajajHong2015.nc")          xarray.DataArray, from .nc or .npz
    each = repetitions(recorded)                         (repetition, image, neuroid, time_bin), NaN if missing
    regression.predictivity(features, np.nanmean(each, 0)[..., 0])

Requires the extra `analysis` (xarray, and h5netcdf for netCDF files).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcsim.core.checks import Labels, checked
from pcsim.core.exceptions import StimulusError, StorageError, needs_extra

if TYPE_CHECKING:
    import xarray

DIMENSIONS = ("presentation", "neuroid", "time_bin")
IDS = ("stimulus_id", "image_id")
"""current and former names of the coordinate that identifies images in Brain-Score"""


@checked(StimulusError)
def load(path: str | Path) -> xarray.DataArray:
    """Load a recording (presentation, neuroid[, time_bin]) from a local file.

    .nc   netCDF with one variable that has these dimensions, in any order, and coordinates along them
    .npz  an array `responses` with these axes, and 1-D coordinates named presentation_*, neuroid_* or time_bin_*, such
          as presentation_stimulus_id; the prefixes presentation_ and neuroid_ are removed from the names

    Raises StorageError for a file that is missing or has different contents.
    """
    path = Path(path)
    with needs_extra("analysis", StorageError, str(path)):
        import xarray
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                arrays = {name: file[name] for name in file.files}
        else:
            with xarray.open_dataset(path, engine="h5netcdf") as opened:
                data_set = opened.load()
    except (OSError, ValueError, TypeError, ImportError) as reason:
        raise StorageError(
            given=f"{path} ({type(reason).__name__}: {reason})",
            expected="a netCDF file (which needs h5netcdf) or an .npz file whose arrays contain no objects",
            remedy='check the path, or install the extra with pip install "pcsim[analysis]"',
        ) from reason
    if path.suffix == ".npz":
        if "responses" not in arrays:
            raise StorageError(
                given=f"{path}, which contains {', '.join(arrays)}",
                expected="an array named responses (presentation, neuroid[, time_bin])",
                remedy="save the file with np.savez(path, responses=..., presentation_stimulus_id=...)",
            )
        return labelled(**arrays)
    fitting = [name for name, array in data_set.data_vars.items() if set(DIMENSIONS[:2]) <= set(array.dims)]
    if len(fitting) != 1 or not set(data_set[fitting[0]].dims) <= set(DIMENSIONS):
        raise StorageError(
            given=f"{path} with " + ", ".join(f"{name} {array.dims}" for name, array in data_set.data_vars.items()),
            expected=f"one variable with the dimensions {', '.join(DIMENSIONS)} (the last is optional)",
            remedy="rename its dimensions with array.rename(trial='presentation'), or call recordings.labelled(array)",
        )
    array = data_set[fitting[0]]
    return array.transpose(*(dim for dim in DIMENSIONS if dim in array.dims))


@checked(StimulusError)
def labelled(responses: ArrayLike, **coordinates: Labels) -> xarray.DataArray:
    """Label `responses` (presentation, neuroid[, time_bin]) with coordinates whose names begin with an axis name.

        labelled(x, presentation_stimulus_id=names, neuroid_region=regions, time_bin_start=begins)

    Raises StimulusError for coordinates with an unsuitable name or shape.
    """
    with needs_extra("analysis", StimulusError, "labelled()"):
        import xarray

    values = np.asarray(responses)
    sizes = dict(zip(DIMENSIONS, values.shape, strict=False))
    named: dict[str, Any] = {}
    for name, given in coordinates.items():
        array = np.asarray(given)
        axis = next((dim for dim in sizes if name.startswith(f"{dim}_")), None)
        if axis is None or array.shape != (sizes[axis],) or values.ndim not in (2, 3):
            raise StimulusError(
                given=f"responses {values.shape} and {name} {array.shape}",
                expected="(presentation, neuroid[, time_bin]), and 1-D coordinates whose names begin with one of these",
                remedy="call labelled(responses, presentation_stimulus_id=names, neuroid_region=regions)",
            )
        named[name if axis == "time_bin" else name.removeprefix(f"{axis}_")] = (axis, array)
    return xarray.DataArray(values, dims=DIMENSIONS[: values.ndim], coords=named)


@checked(StimulusError)
def images_of(recorded: xarray.DataArray, by: str | None = None) -> NDArray[Any]:
    """Return the unique ids of the presented images, sorted, in the order used by `repetitions`.

    Arrange the features in this order. Strings sort alphabetically, so "image 10" comes before "image 2".
    """
    return np.unique(_shown(recorded, by))


@checked(StimulusError)
def of_images(recorded: xarray.DataArray, coordinate: str, by: str | None = None) -> NDArray[Any]:
    """Return a presentation coordinate, such as the class, for each image in the order used by `repetitions`.

    Raises StimulusError if the coordinate differs between presentations of an image.
    """
    if coordinate not in recorded.coords or recorded[coordinate].dims != ("presentation",):
        along = [str(name) for name, values in recorded.coords.items() if values.dims == ("presentation",)]
        raise StimulusError(
            given=f"the coordinate {coordinate!r}",
            expected=f"a coordinate along presentation: {', '.join(along)}",
            remedy=f"call labelled(..., presentation_{coordinate}=values)",
        )
    _, first, image = np.unique(_shown(recorded, by), return_index=True, return_inverse=True)
    values = np.asarray(recorded[coordinate].values)
    if (values[first][image] != values).any():
        raise StimulusError(
            given=f"{coordinate}, which changes between presentations of an image",
            expected="one value for each image",
            remedy="pass a coordinate that is a property of the image, such as its class",
        )
    return values[first]


@checked(StimulusError)
def repetitions(recorded: xarray.DataArray, by: str | None = None) -> NDArray[np.float64]:
    """Return responses (repetition, image, neuroid[, time_bin]), padded with NaN for images with fewer repetitions.

    by  the coordinate that identifies images; by default stimulus_id or image_id

    `numpy.nanmean(..., 0)` averages over repetitions. `regression.split_half_ceiling` requires a single time bin.
    """
    _, image = np.unique(_shown(recorded, by), return_inverse=True)
    values = np.asarray(recorded.values, float)
    counts = np.bincount(image)
    found = np.full((counts.max(), len(counts), *values.shape[1:]), np.nan)
    order = np.argsort(image, kind="stable")
    turn = np.concatenate([np.arange(count) for count in counts])
    found[turn, image[order]] = values[order]
    return found


def _shown(recorded: xarray.DataArray, by: str | None) -> NDArray[Any]:
    coordinates = getattr(recorded, "coords", ())
    name = by or next((known for known in IDS if known in coordinates), None)
    if name is None or name not in coordinates or recorded[name].dims != ("presentation",):
        raise StimulusError(
            given=f"a {type(recorded).__name__} with coordinates {', '.join(map(str, coordinates))}, by={by!r}",
            expected=f"a coordinate along presentation that identifies the image, by default {' or '.join(IDS)}",
            remedy="pass its name as by='NAME', or convert an array with labelled() first",
        )
    return np.asarray(recorded[name].values)
