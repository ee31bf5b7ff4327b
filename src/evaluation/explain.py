"""Where a network looks: Grad-CAM heat (Selvaraju et al. 2017) by captum, drawn beside pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from src.evaluation.trained_run import TrainedRun
from src.figures import INK, framed_figure
from src.io import UserError

SMALLEST_MAP = 7  # rows and columns of heat; that of a ResNet's last layer for 224x224 pixels
BATCH = 8  # pictures at once, as gradients need memory
_CELL = 1.75  # inches


def explain(run: TrainedRun, files: Sequence[str | Path]) -> Figure:
    """Draw pictures beside the heat of each task: of class 1, or of the predicted of K classes.

    Raises:
        UserError: captum is not installed, or the network has no maps.
    """
    images = torch.stack([run.transform(file) for file in files])
    images = images.to(next(run.model.parameters()).device)
    layer, (rows, columns) = find_layer(run.model, images[0])
    with torch.inference_mode():
        logits = torch.cat([run.model(part) for part in images.split(BATCH)])  # (N, C)
    heat, captions = [], []
    tables = run.layout.probabilities(logits)
    for grouping, place, table in zip(run.evaluator.groupings, run.layout.columns, tables):
        binary = grouping.num_classes == 2
        shown = torch.ones_like(table[:, 0], dtype=torch.long) if binary else table.argmax(1)
        heat.append(grad_cam(run.model, layer, images, place.start + (0 if binary else shown)))
        names = [grouping.task if binary else f"{grouping.task}={k}" for k in grouping.classes[0]]
        captions.append(
            [f"{names[k]} {100 * p[k]:.0f} %" for k, p in zip(shown.tolist(), table.tolist())]
        )
    note = (
        f"Grad-CAM at {layer} ({rows} x {columns} places), each picture scaled by itself. Red "
        "raises the logit of the class above, blue lowers it."
    )
    return draw_sheet(
        f"Where {'/'.join(run.path.parts[-3:])}, epoch {run.epoch}, looks",
        note,
        np.stack([run.crop(file) for file in files]),
        np.stack(heat, 1),
        list(zip(*captions)),
        [Path(file).name for file in files],
    )


def grad_cam(network: nn.Module, layer: str, images: Tensor, columns: int | Tensor) -> np.ndarray:
    """Return heat (N, H, W): positive where a place raises the logit of a column.

    Each picture's heat is divided by its largest magnitude.

    Args:
        layer: dotted name of a layer whose output is a map, see `find_layer`.
        columns: of the logits; one for all pictures, or (N,).
    """
    try:
        from captum.attr import LayerGradCam
    except ImportError as error:
        raise UserError("heat maps need captum, which is missing: pip install captum") from error
    method = LayerGradCam(network, network.get_submodule(layer))
    targets = torch.as_tensor(columns, device=images.device).expand(len(images))
    heat = []
    for part, target in zip(images.split(BATCH), targets.split(BATCH)):
        maps = method.attribute(part, target=target).detach()  # (B, 1, h, w), signed
        heat.append(nn.functional.interpolate(maps, images.shape[2:], mode="bilinear")[:, 0])
    whole = torch.cat(heat)
    return (whole / whole.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)).cpu().numpy()


def find_layer(network: nn.Module, image: Tensor) -> tuple[str, tuple[int, int]]:
    """Return the name and (rows, columns) of the last layer whose output has 7 x 7 places or more.

    For small images, a network's very last map is too coarse to show anything.

    Args:
        image: (3, H, W).
    """
    found: list[tuple[str, tuple[int, int]]] = []
    height, width = image.shape[1:]

    def note(name: str, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return
        rows, columns = output.shape[2:]
        # Attention and maps with channels last have another shape than the picture.
        same_shape = abs(rows * width - columns * height) <= max(height, width)
        if same_shape and min(rows, columns) >= SMALLEST_MAP:
            found.append((name, (rows, columns)))

    hooks = [
        module.register_forward_hook(lambda _module, _args, output, name=name: note(name, output))
        for name, module in network.named_modules()
        if name and not isinstance(module, nn.AdaptiveAvgPool2d) and not cuts_patches(module)
    ]
    try:
        with torch.inference_mode():
            network(image[None])
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise UserError(
            "this network has no feature maps of at least 7 x 7 places: Grad-CAM needs a "
            "convolutional network"
        )
    return found[-1]


def draw_sheet(
    title: str,
    note: str,
    pictures: np.ndarray,
    heat: np.ndarray,
    captions: Sequence[Sequence[str]],
    names: Sequence[str],
) -> Figure:
    """Draw each picture, and beside it a copy per task under that task's heat.

    Args:
        pictures: (N, H, W, 3) uint8.
        heat: (N, T, H, W) from -1 (blue) to 1 (red).
        captions: (N, T) texts above the heat.
        names: (N,) texts above the pictures.
    """
    count, tasks = heat.shape[:2]
    across = max(1, min(count, 8 // (1 + tasks)))  # pictures in a row
    rows = -(-count // across)
    height = (_CELL + 0.25) * rows + 0.9
    figure = framed_figure(title, max(7.0, _CELL * across * (1 + tasks)), height, note)
    grid = figure.subplots(rows, across * (1 + tasks), squeeze=False)
    for axis in grid.ravel():
        axis.axis("off")
    for at, (picture, name) in enumerate(zip(pictures, names)):
        row, start = at // across, at % across * (1 + tasks)
        grid[row, start].imshow(picture)
        grid[row, start].set_title(name, fontsize=8, color=INK)
        grey = np.repeat(picture.mean(2, keepdims=True), 3, 2).astype(np.uint8)
        for task in range(tasks):
            axis = grid[row, start + 1 + task]
            axis.imshow(grey)
            axis.imshow(heat[at, task], cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.5)
            axis.set_title(captions[at][task], fontsize=8, color=INK)
    return figure


def cuts_patches(module: nn.Module) -> bool:
    """Return whether a layer is the first one of a vision transformer."""
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == module.stride
        and min(module.stride) >= 8
    )
