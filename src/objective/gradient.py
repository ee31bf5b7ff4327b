"""Layer 4: weights of the tasks from the angles between their gradients.

The gradients are those of a part of the network that costs nothing: with features z (B, D) before
a linear head with rows W_c, and R = dS/df (B, C), their inner products need two small matrix
products, and one ordinary backward pass follows. It works with batch norm, mixed precision and
torch.compile.

- `features`: gradients by z, G = (R^T R) * (W W^T), elementwise, as MGDA-UB (Sener and Koltun
  2018). It cannot see a conflict between groups of one task, because no example belongs to two.
- `adapter`: gradients by a virtual linear layer (D, D) between z and the head, value identity.
  With M = R^T z, G = (M M^T) * (W W^T). After a ReLU z is at least 0, which shifts its cosines up.

Both stand for the gradient of all weights; docs/several_tasks.md says how well. `features` is
closer for tasks, and `adapter` is the default for the groups of tasks (`cells`).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from src.io import UserError
from src.models.build import CosineHead, Network
from src.objective.batch import Batch, TrainTables, cells
from src.objective.layer import TableLayer
from src.objective.options import ObjectiveOptions
from src.objective.solvers import aligned_mtl, cagrad, imtl_g, mgda, pcgrad, upgrad
from src.sampling.draws import TASK_STREAM

MOST_CELLS = 64  # the noise of one batch hides more
MOST_NAMED = 8  # tasks whose cosines are logged one by one


class GradientLayer(TableLayer):
    """Called with S (T,) and the batch; returns a scalar of value sum_t S_t, and weights (T,).

    The gradient of the scalar is what the layer makes of the tasks' gradients.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.name, self.tasks = options.gradient, tables.tasks
        self.own = getattr(options, options.gradient)
        self.pairs = [(a, b) for a in range(len(self.tasks)) for b in range(a)]
        self.register_buffer("cosines", torch.zeros(len(self.pairs)), persistent=False)

    def watch(self, network: Network, gather: Callable[[Tensor], Tensor] = torch.clone) -> None:
        """Prepare for the gradients of a network.

        Args:
            gather: (b, ...) of this process to (B, ...) of all.
        """
        raise NotImplementedError

    def measure(self, gramian: Tensor) -> None:
        """Keep the cosines between the tasks for the log, from their Gramian (T, T)."""
        norms = gramian.diagonal().clamp(min=1e-24).sqrt()
        cosines = gramian / norms[:, None] / norms
        below = torch.tril_indices(*cosines.shape, -1, device=cosines.device)  # as in `pairs`
        self.cosines.copy_(cosines[below[0], below[1]])

    @property
    def log_names(self) -> list[str]:
        """The share of pairs of tasks whose gradients conflict; of few tasks also the cosines."""
        named = [f"{self.tasks[a]}/cosine/{self.tasks[b]}" for a, b in self.pairs]
        return ["conflicts", *(named if len(self.tasks) <= MOST_NAMED else [])]

    def logged(self) -> Tensor:
        share = (self.cosines < 0).float().sum() / max(len(self.pairs), 1)
        return torch.cat([share[None], self.cosines])[: len(self.log_names)]


def replace_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """Return a scalar with the value of one and the gradient of another."""
    return value.detach() + surrogate - surrogate.detach()


class GramianLayer(GradientLayer):
    """Weighs tasks, or with `cells` the groups of all tasks, by a solver."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.size = tables.group_counts.shape[1] if self.own.cells else 1  # G
        widths = torch.tensor([place.stop - place.start for place in tables.layout.columns])
        task_of_column = torch.arange(len(self.tasks)).repeat_interleave(widths)
        self.register_buffer("task_of_column", task_of_column, persistent=False)
        rows = len(self.tasks) * self.size
        if rows > MOST_CELLS and self.own.cells:
            raise UserError(
                f"exp.objective.{self.name}.cells: {rows} groups of all tasks, at most {MOST_CELLS}"
                f"; use fewer tasks, or cells=false"
            )
        self.register_buffer("orders", torch.zeros(rows, rows, dtype=torch.int64), persistent=False)
        self.seen: tuple[nn.Linear, Tensor] | None = None  # the head, and its last input (B, D)

    def watch(self, network: Network, gather: Callable[[Tensor], Tensor] = torch.clone) -> None:
        self.gather = gather
        network.head.register_forward_hook(self._note)

    def _note(self, head: nn.Linear, inputs: tuple[Tensor], logits: Tensor) -> None:
        self.seen = (head, inputs[0].detach())

    def draw(self, seed: int, step: int) -> None:
        if self.name == "pcgrad":
            rng = np.random.default_rng([seed, TASK_STREAM, step])
            rows = len(self.orders)
            orders = rng.permuted(np.tile(np.arange(rows), (rows, 1)), axis=1)
            self.orders.copy_(torch.from_numpy(orders))

    def forward(self, scalars: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        total = scalars.sum()
        (residuals,) = torch.autograd.grad(total, batch.logits, retain_graph=True)  # (B, C)
        members = torch.ones_like(residuals)[..., None]  # (B, C, 1)
        if self.own.cells:
            members = cells(batch.groups, self.size)[:, self.task_of_column]  # (B, C, G)
        rows = residuals.float()[..., None] * members  # (B, C, G): dS_tg / df
        gramian = self.gramian(rows)  # (T, G, T, G)
        count = len(self.tasks) * self.size
        flat = gramian.reshape(count, count)
        present = flat.diagonal() > 0
        weights = self.solve(flat, present).float().view(-1, self.size)  # (T, G)
        self.measure(gramian.sum((1, 3)))
        # The derivative by a logit is weighted by the logit's cell.
        factor = (members * weights[self.task_of_column]).sum(2)  # (B, C)
        surrogate = ((factor * residuals).detach() * batch.logits).sum()
        return replace_gradient(total, surrogate), weights.mean(1)

    def gramian(self, rows: Tensor) -> Tensor:
        """Return the inner products of the gradients, (T, G, T, G) float64, from rows (B, C, G)."""
        head, features = self.seen
        features = self.gather(features)
        features, heads = features.float(), head.weight.detach().float()
        if isinstance(head, CosineHead):
            features, heads = normalize(features), normalize(heads)
        num_columns, size, num_tasks = rows.shape[1], rows.shape[2], len(self.tasks)
        left = rows.flatten(1).T  # (C G, B)
        kind = self.own.gramian or ("adapter" if self.own.cells else "features")
        if kind == "adapter":
            left = left @ features  # (C G, D)
        products = (left @ left.T).double().view(num_columns, size, num_columns, size)
        products = products * (heads @ heads.T).double()[:, None, :, None]
        sums = products.new_zeros(num_tasks, size, num_columns, size)
        sums.index_add_(0, self.task_of_column, products)
        gramian = products.new_zeros(num_tasks, size, num_tasks, size)
        gramian.index_add_(2, self.task_of_column, sums)
        return gramian.nan_to_num(0, 0, 0)  # of a step that is skipped; solvers would raise

    def solve(self, gramian: Tensor, present: Tensor) -> Tensor:
        """Return the weights of the rows; with `rescale` on the scale of a sum over the rows."""
        if self.name == "pcgrad":
            return pcgrad(gramian, present, self.orders)
        options = {"c": self.own.c} if self.name == "cagrad" else {}
        weights = SOLVERS[self.name](gramian, present, **options)
        return weights * present.sum() if self.own.rescale else weights


SOLVERS = {s.__name__: s for s in (upgrad, mgda, cagrad, imtl_g, aligned_mtl)}
