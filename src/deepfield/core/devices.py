"""Where a fit runs: one process by plain torch, several through lightning-fabric, behind one small face."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from deepfield.core.errors import DeepfieldError
from deepfield.core.optional import require


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread within the block: nets of a hundred units wait for a second thread more than it helps.

    Examples
    --------
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pick_device(name: str = "auto") -> torch.device:
    """Device by name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    DeepfieldError
        If the device asked for is not there.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, present in there.items() if present))
    if not there.get(name.split(":")[0], False):
        present = ", ".join(kind for kind, present in there.items() if present)
        raise DeepfieldError(f"no device '{name}' on this machine; there is {present}")
    return torch.device(name)


class Runtime:
    """One process: a device, a precision, and operations that several processes would share."""

    rank, world = 0, 1

    def __init__(self, device: torch.device, precision: str) -> None:
        if precision not in ("32", "bf16"):
            raise DeepfieldError(f"precision is '32' or 'bf16', got '{precision}'")
        self.device, self.precision = device, precision

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """Module and optimizer, placed."""
        return module.to(self.device), optimizer

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bf16 where asked; ``Model.loss`` lets the head compute in float32 all the same."""
        if self.precision == "32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def mean(self, value: Tensor) -> Tensor:
        """Over the processes."""
        return value


class FabricRuntime(Runtime):
    """Several processes through lightning-fabric (DDP): torchrun's, or as many as it launched."""

    def __init__(self, fabric: Any) -> None:
        self.fabric, self.device = fabric, fabric.device
        self.rank, self.world = fabric.global_rank, fabric.world_size

    def setup(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        return self.fabric.setup(module, optimizer)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()  # fabric's wrapped module does it

    def backward(self, loss: Tensor) -> None:
        self.fabric.backward(loss)

    def mean(self, value: Tensor) -> Tensor:
        return self.fabric.all_reduce(value.to(self.device), reduce_op="mean")


def runtime(device: str, precision: str, processes: int) -> Runtime:
    """The runtime of a fit; with ``processes`` > 1 start it under ``torchrun`` or ``fabric run``."""
    if processes <= 1:
        return Runtime(pick_device(device), precision)
    fabric_module = require("lightning_fabric", extra="distributed")
    fabric = fabric_module.Fabric(
        accelerator=pick_device(device).type,
        devices=processes,
        strategy="ddp",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return FabricRuntime(fabric)
