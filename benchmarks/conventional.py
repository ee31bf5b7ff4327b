"""The conventional loop of the field, in plain PyTorch, to be compared with.

DataLoader workers open and decode every image by PIL at each access and apply torchvision's
transforms; batches are NCHW; the network runs eagerly, in fp16 with a GradScaler on a GPU and in
fp32 on a CPU; each step reads the loss by `.item()`. Workers persist and memory is pinned, as in
careful projects.
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
    """Return the transform of Sagawa et al. (2020)."""
    size = [transforms.CenterCrop(178), transforms.Resize(resolution)]
    if augment:
        crop = transforms.RandomResizedCrop(resolution, scale=(0.7, 1.0), ratio=(1.0, 4 / 3))
        size = [crop, transforms.RandomHorizontalFlip()]
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
            return self.transform(image.convert("RGB")), self.labels[index]


def make_loader(
    data: Faces, batch_size: int, workers: int, device: torch.device, batches: list | None = None
) -> DataLoader:
    """Return a shuffling loader, or one in the order of `batches` (positions of each)."""
    order = {"batch_size": batch_size, "shuffle": True, "drop_last": True}
    if batches is not None:
        order = {"batch_sampler": [batch.tolist() for batch in batches]}
    pinned, kept = device.type == "cuda", workers > 0
    return DataLoader(
        data, num_workers=workers, pin_memory=pinned, persistent_workers=kept, **order
    )


class Training:
    """The loop; `run(steps)` can be called again and trains on."""

    def __init__(
        self, model: nn.Module, loader: DataLoader, device: torch.device, **options: float
    ):
        self.model, self.device = model.to(device), device
        self.optimizer = torch.optim.SGD(model.parameters(), **options)
        self.criterion = nn.BCEWithLogitsLoss()
        self.fp16 = device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.fp16)
        self.losses: list[float] = []
        self.batches = self._endless(loader)

    @staticmethod
    def _endless(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    def run(self, steps: int) -> float:
        """Train; return images per second."""
        self.model.train()
        seen, start = 0, time.perf_counter()
        for _ in range(steps):
            images, labels = (t.to(self.device, non_blocking=True) for t in next(self.batches))
            self.optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.float16, enabled=self.fp16):
                # The mean over tasks times their number: the sum of the tasks' mean losses.
                loss = self.criterion(self.model(images), labels) * labels.shape[1]
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.losses.append(loss.item())
            seen += len(images)
        return seen / (time.perf_counter() - start)


@torch.no_grad()
def evaluate(model: nn.Module, loader: DataLoader, device: torch.device) -> np.ndarray:
    """Return logits (N, T), copied back batch by batch."""
    model.eval()
    outputs = []
    for images, _ in loader:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            output = model(images.to(device, non_blocking=True))
        outputs.append(output.float().cpu().numpy())
    return np.concatenate(outputs)
