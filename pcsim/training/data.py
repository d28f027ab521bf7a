"""Data for training: arrays, datasets and data loaders, as batches of images and targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from pcsim.core.checks import shown
from pcsim.core.exceptions import TrainingError
from pcsim.core.state import Shape
from pcsim.stimuli.pixels import as_pixels
from pcsim.training import distributed
from pcsim.training.batches import Batches, Drawn, Loaded, seeded
from pcsim.training.settings import Training

Pair = tuple[Tensor, Tensor]
"""images and targets of a batch"""
Images = Tensor | NDArray[Any] | Dataset | DataLoader | tuple
"""images; or images with targets: a Dataset, a DataLoader, or a tuple (images, targets)"""
IMAGE_KEYS, LABEL_KEYS = ("image", "images", "pixel_values"), ("label", "labels", "target", "targets")


class Data:
    """Images with targets of shape (n, *classes), from any source that `training.train` accepts.

    classes  shape of the readout
    dtype    dtype of targets that are created from labels
    """

    def __init__(
        self, images: Images, targets: Tensor | NDArray[Any] | None, classes: Shape, dtype: torch.dtype
    ) -> None:
        if isinstance(images, tuple) and targets is None and len(images) == 2:
            images, targets = images
        self._classes, self._dtype = classes, dtype
        self.loader = images if isinstance(images, DataLoader) else None
        self._dataset = images if isinstance(images, Dataset) else None
        has_targets = self.loader is not None or self._dataset is not None
        if has_targets != (targets is None) or isinstance(images, tuple):
            raise TrainingError(
                given=f"{_named(images)} with {'no targets' if targets is None else 'targets'}",
                expected="images and targets, or a Dataset or DataLoader that provides both",
                remedy="omit the targets, and pass settings=..."
                if has_targets
                else "pass targets, such as labels (n,)",
            )
        self._count = self._length(images) if self.loader is None else 0
        if isinstance(images, Tensor | np.ndarray):
            self._images = tensor_of(images)
            self._targets = _as_targets(targets, self._count, classes, dtype)

    def _length(self, images: Any) -> int:
        is_scalar = isinstance(images, Tensor | np.ndarray) and not images.ndim
        count = 0 if is_scalar or not hasattr(images, "__len__") else len(images)
        if isinstance(images, IterableDataset) or not count:
            raise TrainingError(
                given=_named(images),
                expected="at least one image, and a known number of images",
                remedy="pass an IterableDataset as DataLoader(dataset, batch_size=20)",
            )
        return count

    def batches_of(self, settings: Training) -> Batches:
        """Return the batches in the order of training."""
        return Drawn(self._count, settings) if self.loader is None else Loaded(self.loader, settings.seed)

    def samples(self, settings: Training) -> int:
        """Return the number of images from which batches are drawn, or the batch size of a DataLoader."""
        return self._count or settings.batch

    def settings_for(self, settings: Training) -> Training:
        """Return the settings with the batch size of the DataLoader, if any. Raises TrainingError for a conflict."""
        if self.loader is None:
            return settings
        if distributed.size() > 1:
            raise TrainingError(
                given=f"a DataLoader in {distributed.size()} processes",
                expected="data from which every process can take its shard of each batch",
                remedy="pass the dataset: train(network, loader.dataset, settings=settings)",
            )
        size = self.loader.batch_size
        if size is None or size == settings.batch:
            return settings
        if settings.batch != Training.batch:
            raise TrainingError(
                given=f"Training(batch={settings.batch}) and a DataLoader with batch_size={size}",
                expected="a single batch size",
                remedy="omit batch=, because the DataLoader determines the batches",
            )
        return replace(settings, batch=size)

    def require_resumable(self) -> None:
        """Raise TrainingError if an interrupted epoch could not be repeated."""
        if self.loader is not None and self.loader.persistent_workers:
            raise TrainingError(
                given="a checkpoint and a DataLoader with persistent_workers=True",
                expected="workers that are reseeded in every epoch, because resuming repeats their random numbers",
                remedy="pass DataLoader(..., persistent_workers=False), or checkpoint=None",
            )

    def pair(self, batch: Any) -> Pair:
        """Return the images and targets of a batch, given as indices or as a batch of the DataLoader."""
        if self.loader is not None:
            return self._checked(batch)
        if self._dataset is None:
            return as_pixels(self._images[batch]), self._targets[batch]
        return self._checked(_items(self._dataset, batch))

    def in_order(self, size: int) -> Iterator[Pair]:
        """Yield all images and targets once. The order of training batches is unaffected."""
        if self.loader is not None:
            for batch in Loaded(self.loader, 0).once():
                yield self.pair(batch)
            return
        for first in range(0, self._count, size):
            with seeded(0, first):
                pair = self.pair(torch.arange(first, min(first + size, self._count)))
            yield pair

    def first(self, count: int) -> Pair:
        """Return the first `count` images with their targets, or all images if there are fewer."""
        images, targets, found = [], [], 0
        for shown_images, wanted in self.in_order(min(count, 250)):
            images.append(shown_images[: count - found])
            targets.append(wanted[: count - found])
            found += len(images[-1])
            if found == count:
                break
        return torch.cat(images), torch.cat(targets)

    def _checked(self, batch: Any) -> Pair:
        """Return the images and targets of a batch of a Dataset or DataLoader."""
        parts = batch
        if isinstance(batch, Mapping):
            keys = [[key for key in options if key in batch] for options in (IMAGE_KEYS, LABEL_KEYS)]
            parts = [batch[found[0]] for found in keys if len(found) == 1]
        if not isinstance(parts, tuple | list) or len(parts) != 2 or not isinstance(parts[0], Tensor | np.ndarray):
            raise TrainingError(
                given=f"a batch of {_described(batch)}",
                expected=f"(images, targets), or a dict with one of the keys {', '.join(IMAGE_KEYS)} and one of "
                f"{', '.join(LABEL_KEYS)}, as tensors",
                remedy="return (image, label) from the dataset, or pass DataLoader(..., collate_fn=...)",
            )
        images = as_pixels(tensor_of(parts[0]))
        return images, _as_targets(parts[1], len(images) if images.dim() else 0, self._classes, self._dtype)


def tensor_of(values: Tensor | NDArray[Any]) -> Tensor:
    """Return an array as a tensor. Raises TrainingError for types that torch does not support."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.from_numpy(np.require(values, requirements=["C", "W"]))
    except TypeError as reason:
        raise TrainingError(
            given=f"an array of type {values.dtype}",
            expected="numbers of a type that torch supports",
            remedy="convert the array with array.astype('float32')",
        ) from reason


def _as_targets(
    targets: Tensor | NDArray[Any] | None, count: int, classes: Shape, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return targets of shape (count, *classes), 1 for every class present, from targets or labels 0, 1, ..."""
    values = tensor_of(np.asarray(targets) if not isinstance(targets, Tensor) else targets)
    is_whole = not values.is_floating_point() and not values.is_complex()
    if is_whole and values.dtype != torch.bool and len(classes) == 1 and tuple(values.shape) == (count,) and count:
        low, high = int(values.min()), int(values.max())
        if low >= 0 and high < classes[0]:
            return functional.one_hot(values.long(), classes[0]).to(dtype)
        raise TrainingError(
            given=f"labels from {low} to {high} for a readout of {classes[0]} classes",
            expected=f"labels from 0 to {classes[0] - 1}",
            remedy="subtract the first label if labels start at 1, or build the network with "
            f"classes={max(high + 1, classes[0])}",
        )
    if tuple(values.shape) != (count, *classes) or not count or values.is_complex():
        shape = (count, *classes)
        raise TrainingError(
            given=f"{count} images and targets of shape {tuple(values.shape)} and type {values.dtype}",
            expected=f"labels (images,) = ({count},), or (images, classes) = {shape} with 1 for every class present",
            remedy="pass labels.long(), or convert them with torch.nn.functional.one_hot(labels, classes).float()",
        )
    return values.to(dtype) if is_whole else values


def _items(dataset: Dataset[Any], chosen: Tensor) -> Any:
    """Return items of a dataset, collated into a batch."""
    if type(dataset) is TensorDataset:
        return tuple(tensor[chosen] for tensor in dataset.tensors)
    indices = chosen.tolist()
    several = getattr(dataset, "__getitems__", None)
    items = several(indices) if several is not None else [dataset[index] for index in indices]
    try:
        return default_collate(items)
    except (TypeError, RuntimeError) as reason:
        raise TrainingError(
            given=f"items {_described(items[0])} of {_named(dataset)}, which cannot be batched ({reason})",
            expected="items (image, label) as tensors or numbers, with images of the same size",
            remedy="give the dataset a transform that resizes images and returns tensors, or pass a DataLoader with "
            "collate_fn",
        ) from reason


def _named(value: object) -> str:
    return shown(value) if isinstance(value, Tensor | np.ndarray) else f"a {type(value).__name__}"


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a dict with the keys {', '.join(map(str, batch)) or '(none)'}"
    if isinstance(batch, tuple | list):
        return f"({', '.join(_named(part) for part in batch[:6])})"
    return _named(batch)
