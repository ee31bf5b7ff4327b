"""Batches read ahead by a thread.

It fills a few reused buffers (pinned, for CUDA) and starts their copies to the device; the caller's
thread crops, flips and normalises there.
"""

import functools
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from src.data.cache import Records
from src.data.pixels import StreamedImages
from src.io import UserError

ImageSource = Records | StreamedImages


class ReadAhead(Iterator[tuple[torch.Tensor, torch.Tensor]]):
    """Iterates over (transformed images on the device, positions (B,) int64 on the CPU), in the
    order of `batches`.

    The result does not depend on `prefetch`. Leave early with `close()`, or use it in a `with`
    statement; what the reading thread raises is raised by `next`.

    Args:
        source: decoded records, or images decoded as they are needed.
        batches: positions (B,) of each batch.
        device: where the images go.
        transform: called with the pixels (B, H, W, 3) uint8 of each batch; the memory they lie in
            is used again as soon as it returns.
        prefetch: batches read ahead, at least 1.
    """

    def __init__(
        self,
        source: ImageSource,
        batches: Iterable[np.ndarray],
        device: torch.device,
        transform: Callable[[torch.Tensor], torch.Tensor],
        prefetch: int = 3,
    ):
        if prefetch < 1:
            raise ValueError(f"prefetch {prefetch}: at least 1")
        self.wait_seconds = 0.0  # time `next` has spent waiting for the reading thread
        self._device, self._transform = device, transform
        batches = [np.asarray(positions, np.int64) for positions in batches]
        self._left = len(batches)
        # The thread blocks only on `free`, so a None there always ends it.
        self._free, self._ready = queue.SimpleQueue(), queue.SimpleQueue()
        largest = max(map(len, batches), default=0)
        on_gpu = self._device.type == "cuda"
        used = torch.cuda.current_stream(self._device).record_event() if on_gpu else None
        for _ in range(min(prefetch, len(batches))):
            self._free.put((_host_buffer(largest, source.shape, self._device), None, None, used))
        self._thread = threading.Thread(
            target=_read_ahead,
            args=(*_reader(source, batches), batches, self._device, self._free, self._ready),
            name="read-ahead",
            daemon=True,
        )
        self._thread.start()
        # The thread holds no reference to this object: forgotten half-way, it still ends.
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
        images = self._transform(pixels)
        if copied is not None:
            used = stream.record_event()
        # The thread frees the pixels: `record_stream` would keep them for good where recording a
        # CUDA graph has failed once (torch 2.11).
        self._free.put((buffer, copied, pixels, used))
        self._left -= 1
        return images, torch.from_numpy(positions)

    def close(self) -> None:
        """Stop reading; waits for the read that is under way."""
        self._left = 0
        self._finalizer()
        self._thread.join()

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


@functools.cache
def _copying_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all epochs: memory that was freed in one stream is of no use to another."""
    return torch.cuda.Stream(device)


def _host_buffer(count: int, shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    return torch.empty((count, *shape), dtype=torch.uint8, pin_memory=device.type == "cuda")


def _read_ahead(
    read: Callable[[np.ndarray, np.ndarray], Any],
    close: Callable[[], None],
    batches: list[np.ndarray],
    device: torch.device,
    free: queue.SimpleQueue,
    ready: queue.SimpleQueue,
) -> None:
    """The thread: fill free buffers, start their copies, hand them over."""
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
                # What is copied from now on may take the memory of pixels that were used up there.
                stream.wait_event(used)
            item = pixels = None
            host = buffer[: len(positions)]
            read(positions, host.numpy())
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
    finally:
        close()


def _reader(
    source: ImageSource, batches: list[np.ndarray]
) -> tuple[Callable[[np.ndarray, np.ndarray], Any], Callable[[], None]]:
    """A function that fills memory with the images of the next batch, and one to call at the end.

    Called in the main thread, where starting processes is safest.
    """
    if not isinstance(source, StreamedImages) or not source.workers or not batches:
        return source.read, lambda: None
    workers = min(source.workers, len(batches))
    loader = iter(DataLoader(_Decoded(source), None, sampler=batches, num_workers=workers))

    def read(positions: np.ndarray, out: np.ndarray) -> None:
        images = next(loader)
        if isinstance(images, UserError):
            raise images
        out[...] = images.numpy()

    def close() -> None:
        nonlocal loader
        loader = None  # ends its processes here and now; the garbage collector takes 10 s for it

    return read, close


class _Decoded(Dataset):
    """Whole batches, decoded in the workers of a DataLoader."""

    def __init__(self, source: StreamedImages):
        self.source = source

    def __getitem__(self, positions: np.ndarray) -> torch.Tensor | UserError:
        try:
            return torch.from_numpy(self.source.read(positions))
        except UserError as error:
            return error  # raised there, a DataLoader would wrap it in a traceback
