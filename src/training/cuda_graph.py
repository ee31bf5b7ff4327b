"""Training steps replayed as one CUDA graph.

A network on a small batch is a thousand small kernels, and the CPU needs longer to start them than
the GPU to run them. Once recorded, all of them start in one call.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # real steps before recording: cuDNN chooses its kernels, buffers are created


class CapturedStep:
    """Calls `step(images, positions)`, from the fourth full batch on by replaying a recording.

    The step must read and write tensors at fixed addresses only, and must not wait for the device.
    Batches of another size, such as the last of an epoch, run eagerly. If recording fails, all
    batches do, with a line that says why.

    Args:
        step: what a training step does on the device, from images (B, 3, H, W) and positions (B,).
        batch_size: B of a full batch.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], None], batch_size: int):
        self.step, self.batch_size = step, batch_size
        self.graph: torch.cuda.CUDAGraph | None = None
        self.possible = True
        self._warm = 0

    def __call__(self, images: Tensor, positions: Tensor) -> None:
        if not self.possible or len(images) != self.batch_size:
            self.step(images, positions)
            return
        if not self._warm:
            self._images, self._positions = torch.empty_like(images), torch.empty_like(positions)
            self._stream = torch.cuda.Stream(images.device)
        self._images.copy_(images)
        self._positions.copy_(positions)
        if self._warm < WARM_UP:
            self._warm += 1
            self._run_on_own_stream()
            return
        if self.graph is None:
            self._record()
        if self.graph is None:
            self.step(images, positions)
        else:
            self.graph.replay()

    def _run_on_own_stream(self) -> None:
        """Run a real step on the stream that will record, as recording requires."""
        current = torch.cuda.current_stream(self._images.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.step(self._images, self._positions)
        current.wait_stream(self._stream)

    def _record(self) -> None:
        """Record the step; nothing is computed meanwhile."""
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context returns to the current stream if recording fails; the inner one does
            # not. Thread-local: the thread that reads ahead may use the device meanwhile.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self._images.device)),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                self.step(self._images, self._positions)
        except RuntimeError as error:
            self.possible = False
            reason = str(error).splitlines()[0]
            print(f"steps are not replayed as a CUDA graph: {reason}", flush=True)
            return
        self.graph = graph
