"""The conventional loop of the field, in plain PyTorch, to be compared with.

Every image is opened and decoded by PIL at each access in DataLoader workers and goes through
torchvision's transforms; batches are NCHW, the network runs eagerly, in fp16 autocast with a
GradScaler on a GPU and in fp32 on a CPU; the loss is read back with `.item()` at every step.
Workers persist and memory is pinned, as careful peers do it.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_transform(resolution: tuple[int, int], augment: bool) -> transforms.Compose:
    """The transform of Sagawa et al. (2020)."""
    if augment:
        size = [
            transforms.RandomResizedCrop(resolution, scale=(0.7, 1.0), ratio=(1.0, 4 / 3)),
            transforms.RandomHorizontalFlip(),
        ]
    else:
        size = [transforms.CenterCrop(178), transforms.Resize(resolution)]
    return transforms.Compose([*size, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


class Faces(Dataset):
    """Image files with labels (N, T)."""

    def __init__(self, paths: Sequence[Path], labels: np.ndarray, transform: transforms.Compose):
        self.paths, self.transform = paths, transform
        self.labels = torch.from_numpy(labels).float()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.paths[index]) as image:
            pixels = self.transform(image.convert("RGB"))
        return pixels, self.labels[index]


def make_loader(
    data: Faces,
    batch_size: int,
    workers: int,
    device: torch.device,
    batches: list[np.ndarray] | None = None,
) -> DataLoader:
    """Shuffled, or in the order of `batches` (positions of each)."""
    common = {
        "num_workers": workers,
        "pin_memory": device.type == "cuda",
        "persistent_workers": workers > 0,
    }
    if batches is not None:
        return DataLoader(data, batch_sampler=[b.tolist() for b in batches], **common)
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, **common)


class Training:
    """The loop; `run(steps)` trains on and can be called again."""

    def __init__(
        self,
        model: nn.Module,
        loader: DataLoader,
        device: torch.device,
        lr: float,
        weight_decay: float,
        momentum: float,
    ):
        self.model, self.loader, self.device = model.to(device), loader, device
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        self.criterion = nn.BCEWithLogitsLoss()
        self.fp16 = device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.fp16)
        self.losses: list[float] = []
        self._batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def run(self, steps: int) -> float:
        """Train; returns images per second."""
        self.model.train()
        images_seen, start = 0, time.perf_counter()
        for _ in range(steps):
            images, labels = next(self._batches)
            images = images.to(self.device, non_blocking=True)
            labels = labels.to(self.device, non_blocking=True)
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.float16, enabled=self.fp16):
                # The mean over tasks times their number: the sum of the tasks' mean losses.
                loss = self.criterion(self.model(images), labels) * labels.shape[1]
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.losses.append(loss.item())
            images_seen += len(images)
        return images_seen / (time.perf_counter() - start)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device) -> np.ndarray:
    """Logits (N, T), copied back batch by batch, with the training loader's batch size."""
    model.eval()
    outputs = []
    for images, _ in loader:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            output = model(images.to(device, non_blocking=True))
        outputs.append(output.float().cpu().numpy())
    return np.concatenate(outputs)
