"""The benchmark's work in plain PyTorch, with learn2learn and with higher: MAML on the network of `models.conv4`.

The meta-gradients are those of `MetaLearner` with the preset `maml`, with or without `multi_step_loss`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch._dynamo
from torch import Tensor, nn
from torch.nn import functional

from tf_mamlpp.benchmark.cases import Case, random_tasks
from tf_mamlpp.runtime import cores

Predict = Callable[[Tensor], Tensor]


def forward(weights: Sequence[Tensor], norms: Sequence[Tensor], x: Tensor) -> Tensor:
    """The network as a function of its weights.

    Args:
        weights: kernel and bias of each convolution, then of the dense layer.
        norms: gamma and beta of each batch norm.
        x: pictures `[B, C, H, W]`.

    Returns:
        Logits `[B, way]`.
    """
    for i in range(0, len(norms), 2):
        x = functional.conv2d(x, weights[i], weights[i + 1], padding=1)
        x = functional.batch_norm(x, None, None, norms[i], norms[i + 1], training=True, eps=1e-5)
        x = functional.max_pool2d(functional.leaky_relu(x, 0.01), 2)
    return functional.linear(x.flatten(1), *weights[-2:])


class Network(nn.Module):
    """`forward` as a module that holds the weights."""

    def __init__(self, case: Case):
        super().__init__()
        height, width, channels = case.image_shape
        inputs = [channels, *[case.filters] * 3]
        layers: list[nn.Module] = [nn.Conv2d(n, case.filters, 3, padding=1) for n in inputs]
        layers.append(nn.Linear((height // 16) * (width // 16) * case.filters, case.way))
        self.layers = nn.ModuleList(layers)
        # They are no parameters of the module, because the inner loop adapts all parameters and must leave these alone.
        self.norms = [make(case.filters, requires_grad=True) for _ in inputs for make in (torch.ones, torch.zeros)]

    def forward(self, x: Tensor) -> Tensor:
        return forward([w for layer in self.layers for w in (layer.weight, layer.bias)], self.norms, x)


class PlainPyTorch:
    """Trains a case's network on random tasks.  Called with a count, it returns the milliseconds of as many updates.

    Args:
        case: of the backbone conv4.
        at_once: how many tasks are computed at once, one thread each; 1 for one task on all cores.
        dtype: of weights and pictures; it becomes PyTorch's default.

    Attributes:
        learned: the weights that the outer loop learns: those that the inner loop adapts, then those of batch norms.
    """

    def __init__(self, case: Case, at_once: int = 1, dtype: str = "float32"):
        torch.set_num_threads(1 if at_once > 1 else cores())
        torch.set_default_dtype(getattr(torch, dtype))
        self.case, self.network = case, Network(case)
        self.learned = [*self.network.parameters(), *self.network.norms]
        self.optimizer = torch.optim.Adam(self.learned, 1e-3)
        self.tasks = _as_tensors(random_tasks(case, dtype))
        self._pool = ThreadPoolExecutor(at_once)

    def __call__(self, count: int) -> list[float]:
        milliseconds = []
        for _ in range(count):
            start = time.perf_counter()
            for weight, gradient in zip(self.learned, self.meta_gradient(), strict=True):
                weight.grad = gradient
            self.optimizer.step()
            milliseconds.append((time.perf_counter() - start) * 1e3)
        return milliseconds

    def set_weights(self, values: Sequence[np.ndarray]) -> None:
        """Sets the values of `learned`."""
        with torch.no_grad():
            for weight, value in zip(self.learned, values, strict=True):
                weight.copy_(torch.tensor(value))

    def meta_gradient(self) -> list[Tensor]:
        """The gradient for each of `learned`, the mean over tasks."""
        total = [torch.zeros_like(w) for w in self.learned]
        for gradients in self._pool.map(self.task_gradient, self.tasks):
            for part, gradient in zip(total, gradients, strict=True):
                part.add_(gradient, alpha=1 / len(self.tasks))
        return total

    def task_gradient(self, task: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """The meta-gradient of one task."""
        losses = [loss for _, loss in self.query_losses(task)]
        return torch.autograd.grad(torch.stack(losses).sum(), self.learned)

    def query_losses(self, task: Mapping[str, Tensor]) -> Iterator[tuple[Any, Tensor]]:
        """The adapted network after each inner step whose query loss counts, and that loss times its weight."""
        steps = self.case.inner_steps
        for k, adapted in enumerate(self.adapt(task["support_images"], task["support_labels"])):
            if self.case.multi_step_loss or k == steps - 1:
                loss = functional.cross_entropy(adapted(task["query_images"]), task["query_labels"])
                yield adapted, loss / steps if self.case.multi_step_loss else loss

    def adapt(self, images: Tensor, labels: Tensor) -> Iterator[Predict]:
        """The network after each inner step on a support set."""
        weights: Sequence[Tensor] = list(self.network.parameters())
        for _ in range(self.case.inner_steps):
            loss = functional.cross_entropy(forward(weights, self.network.norms, images), labels)
            gradients = torch.autograd.grad(loss, weights, create_graph=not self.case.first_order)
            weights = [w - self.case.inner_rate * g for w, g in zip(weights, gradients, strict=True)]
            yield partial(forward, weights, self.network.norms)


class Learn2Learn(PlainPyTorch):
    """The inner loop by learn2learn's `MAML` (Arnold et al., arXiv 2008.12284)."""

    def __init__(self, case: Case, at_once: int = 1, dtype: str = "float32"):
        super().__init__(case, at_once, dtype)
        algorithms = importlib.import_module("learn2learn").algorithms
        self._maml = algorithms.MAML(self.network, case.inner_rate, first_order=case.first_order)

    def adapt(self, images: Tensor, labels: Tensor) -> Iterator[Predict]:
        adapted = self._maml.clone()
        for _ in range(self.case.inner_steps):
            adapted.adapt(functional.cross_entropy(adapted(images), labels))
            yield adapted


class Higher(PlainPyTorch):
    """The inner loop by higher's `innerloop_ctx` (Grefenstette et al., arXiv 1910.01727)."""

    def __init__(self, case: Case, at_once: int = 1, dtype: str = "float32"):
        super().__init__(case, at_once, dtype)
        self._loop = importlib.import_module("higher").innerloop_ctx
        self._inner = torch.optim.SGD(self.network.parameters(), case.inner_rate)

    def adapt(self, images: Tensor, labels: Tensor) -> Iterator[Predict]:
        tracked = not self.case.first_order
        settings = {"copy_initial_weights": False, "track_higher_grads": tracked}
        with self._loop(self.network, self._inner, **settings) as (adapted, optimizer):
            for _ in range(self.case.inner_steps):
                optimizer.step(functional.cross_entropy(adapted(images), labels))
                yield adapted

    def task_gradient(self, task: Mapping[str, Tensor]) -> Sequence[Tensor]:
        if not self.case.first_order:
            return super().task_gradient(task)
        # Steps that are not tracked have no gradient; to first order it is the one at the adapted weights.
        parts = [
            torch.autograd.grad(loss, [*adapted.parameters(), *self.network.norms])
            for adapted, loss in self.query_losses(task)
        ]
        return [torch.stack(same).sum(0) for same in zip(*parts, strict=True)]


PEERS: Mapping[str, type[PlainPyTorch]] = {"pytorch": PlainPyTorch, "learn2learn": Learn2Learn, "higher": Higher}


def _as_tensors(batch: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """The tasks of a meta-batch one by one, with pictures `[B, C, H, W]`."""

    def tensor(name: str, value: Any) -> Tensor:
        if name.endswith("labels"):
            return torch.tensor(value, dtype=torch.int64)
        return torch.tensor(value).permute(0, 3, 1, 2).contiguous()

    count = len(batch["support_labels"])
    return [{name: tensor(name, value[i]) for name, value in batch.items()} for i in range(count)]
