"""Batches read ahead by a thread.

The thread fills a few reused buffers (pinned, for CUDA) and starts their copies to the device. The
caller's thread crops, flips and normalises there.
"""

import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from src.data.features import input_type
from src.data.pixels import Pixels


class ImageSource(Protocol):
    """The images of a split, read by position: decoded records, or images decoded when needed.

    Features (src/data/features.py) are read in the same way.

    Attributes:
        pixels: what is kept of each image.
        shape: (H, W, 3) of an image.
        sizes: (N, 2) height and width of the pictures that full frames are scaled copies of.
        fingerprint: identifies the pixels.
    """

    pixels: Pixels
    shape: tuple[int, ...]
    sizes: np.ndarray
    fingerprint: dict[str, str]

    def read(self, positions: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Fill `out` (B, H, W, 3) with the images at `positions` (B,)."""


class ReadAhead(Iterator[tuple[torch.Tensor, torch.Tensor]]):
    """Iterates over (transformed images on the device, positions (B,) int64 on the CPU).

    Leave early with `close()`, or use it in a `with` statement.

    Args:
        source: images on the host.
        batches: positions (B,) of each batch.
        transform: called with the pixels (B, H, W, 3) uint8 and the positions of each batch. Their
            memory is used again as soon as it returns.
        prefetch: batches read ahead, at least 1.
    """

    def __init__(
        self,
        source: ImageSource,
        batches: Sequence[np.ndarray],
        device: torch.device,
        transform: Callable[[torch.Tensor, np.ndarray], torch.Tensor],
        prefetch: int = 3,
    ):
        if prefetch < 1:
            raise ValueError(f"prefetch {prefetch}: at least 1")
        self.wait_seconds = 0.0  # time `next` has spent waiting for the reading thread
        self._device, self._transform = device, transform
        self._left = len(batches)
        # The thread blocks only on `free`, so a None there always ends it.
        self._free, self._ready = queue.SimpleQueue(), queue.SimpleQueue()
        shape = (max(map(len, batches), default=0), *source.shape)
        kind = torch.float32 if input_type(source) is np.float32 else torch.uint8
        on_gpu = self._device.type == "cuda"
        used = torch.cuda.current_stream(self._device).record_event() if on_gpu else None
        for _ in range(min(prefetch, len(batches))):
            buffer = torch.empty(shape, dtype=kind, pin_memory=on_gpu)
            self._free.put((buffer, None, None, used))
        self._thread = threading.Thread(
            target=_read_ahead,
            args=(source, batches, self._device, self._free, self._ready),
            name="read-ahead",
            daemon=True,
        )
        self._thread.start()
        # The thread holds no reference to this object: if it is forgotten, the thread still ends.
        self._finalizer = weakref.finalize(self, self._free.put, None)

    def __len__(self) -> int:
        """Batches still to come."""
        return self._left

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._left:
            self.close()
            raise StopIteration
        start = time.perf_counter()
        item = self._ready.get()
        self.wait_seconds += time.perf_counter() - start
        if isinstance(item, BaseException):
            self.close()
            raise item
        positions, pixels, buffer, copied = item
        used = None
        if copied is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(copied)
        images = self._transform(pixels, positions)
        if copied is not None:
            used = stream.record_event()
        # The thread frees the pixels: `record_stream` would keep them for good if recording a CUDA
        # graph has failed once (torch 2.11).
        self._free.put((buffer, copied, pixels, used))
        self._left -= 1
        return images, torch.from_numpy(positions)

    def close(self) -> None:
        """Stop reading; wait for the read that is under way."""
        self._left = 0
        self._finalizer()
        self._thread.join()

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


@functools.cache
def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    """Return one stream for all epochs: memory freed in one stream is of no use to another."""
    return torch.cuda.Stream(device)


def _read_ahead(
    source: ImageSource,
    batches: Sequence[np.ndarray],
    device: torch.device,
    free: queue.SimpleQueue,
    ready: queue.SimpleQueue,
) -> None:
    """Fill free buffers, start their copies, hand them over; runs in the thread."""
    try:
        stream = _copying_stream(device) if device.type == "cuda" else None
        for positions in batches:
            item = free.get()
            if item is None:
                return
            buffer, copied, pixels, used = item
            if copied is not None:
                copied.synchronize()  # the last copy out of this buffer is over
            if used is not None:
                # Copies from now on may take the memory of pixels that were used up there.
                stream.wait_event(used)
            item = pixels = None
            host = buffer[: len(positions)]
            source.read(positions, host.numpy())
            if stream is None:
                ready.put((positions, host.to(device), buffer, None))
                continue
            with torch.cuda.stream(stream):
                pixels = host.to(device, non_blocking=True)
                copied = torch.cuda.Event()
                copied.record(stream)
            ready.put((positions, pixels, buffer, copied))
    except BaseException as error:  # raised again by `next`
        ready.put(error)
