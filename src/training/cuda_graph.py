"""A training step replayed as one CUDA graph.

A network on a small batch is a thousand small kernels, and the CPU needs longer to start them than
the GPU to run them. Recorded once, all of them start in one call.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # real steps before recording: cuDNN chooses its kernels, buffers are made


class CapturedStep:
    """Calls `step(images, labels)`, from the fourth full batch on by replaying its recording.

    The step must read and write tensors at fixed addresses only, and must not wait for the device.
    Batches of another size, such as an epoch's last, run as they are. So does everything where
    recording fails, with a line that says why.

    Args:
        step: what a training step does on the device, from images (B, 3, H, W) and labels (B, T)
            on.
        batch_size: B of a full batch.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], None], batch_size: int):
        self.step, self.batch_size = step, batch_size
        self.graph: torch.cuda.CUDAGraph | None = None
        self.possible = True
        self._warm = 0

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if not self.possible or len(images) != self.batch_size:
            self.step(images, labels)
            return
        if not self._warm:
            self._images, self._labels = torch.empty_like(images), torch.empty_like(labels)
            self._stream = torch.cuda.Stream(images.device)
        self._images.copy_(images)
        self._labels.copy_(labels)
        if self._warm < WARM_UP:
            self._warm += 1
            self._run_beside()
            return
        if self.graph is None:
            self._record()
        if self.graph is None:
            self.step(images, labels)
        else:
            self.graph.replay()

    def _run_beside(self) -> None:
        """A real step on the stream that will record, as recording asks for."""
        current = torch.cuda.current_stream(self._images.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.step(self._images, self._labels)
        current.wait_stream(self._stream)

    def _record(self) -> None:
        """Record the step; nothing is computed meanwhile."""
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context leads back to the current stream where recording fails; the inner
            # one does not. Thread-local: the thread that reads ahead may use the device meanwhile.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self._images.device)),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self.step(self._images, self._labels)
        except RuntimeError as error:
            self.possible = False
            reason = str(error).splitlines()[0]
            print(f"steps are not replayed as a CUDA graph: {reason}", flush=True)
            return
        self.graph = graph
