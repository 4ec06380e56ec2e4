"""Calls of a denoiser that wait: which of them can be joined, and who gets which rows."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from socratic_agents.core.errors import BatchError
from socratic_agents.models.step_batching.hooks import signature_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from typing import Self

__all__ = (
    "Call",
    "all_close",
    "concat",
    "equal",
    "read_call",
    "rows_of",
    "signature_key",
)


@dataclass(kw_only=True, eq=False)
class Call:
    """A call of a denoiser that waits."""

    model: Any
    arguments: dict[str, Any]
    rows: int
    """Of the batch; 0: nobody knows."""
    form: Hashable = None
    """Calls of one form may be joined where their ``wholes`` are equal."""
    wholes: list[Any] = field(default_factory=list)
    """Tensors that belong to all rows, such as positions."""
    sizes: list[frozenset[Any]] = field(default_factory=list)
    """Of lists of tensors, one for each row: the shapes in them."""

    def read(self) -> Self:
        """Fill in what follows from the arguments."""
        names = sorted(self.arguments)
        forms = tuple(self._form(self.arguments[name]) for name in names)
        self.form = (id(self.model), *names, forms)
        return self

    def _form(self, value: Any) -> Hashable:
        import torch

        rows, kind = self.rows, type(value).__name__
        if isinstance(value, torch.Tensor):
            layout = (value.dtype, value.device)
            if value.ndim and len(value) != rows:
                self.wholes.append(value)
                return ("whole", value.shape, *layout)
            return ("rows", value.ndim, value.shape[1:], *layout)
        if isinstance(value, dict):
            return (kind, *((name, self._form(value[name])) for name in sorted(value)))
        if isinstance(value, list | tuple) and value:
            return (kind, *self._listed(value))
        return (kind, repr(value))

    def _listed(self, value: Sequence[Any]) -> tuple[Hashable, ...]:
        import torch

        first, each = value[0], isinstance(value, list) and len(value) == self.rows
        tensors = [isinstance(one, torch.Tensor) for one in value]
        if each and all(tensors):
            self.sizes.append(frozenset(one.shape for one in value))
            return ("rows", first.ndim, first.dtype, first.device)
        if any(tensors):
            return tuple(map(self._form, value))
        if each and all(one == first for one in value):
            return ("rows", repr(first))
        return (repr(value),)


def signature_key(calls: Sequence[Call]) -> Hashable:
    """Return what decides whether calls can be joined, as far as we can know."""
    shapes = zip(*(call.sizes for call in calls), strict=True)
    return calls[0].form, any(len(frozenset().union(*each)) > 1 for each in shapes)


def read_call(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
    """Return a call with its arguments by name."""
    signature = signature_of(model)
    bound = signature.bind(model, *args, **kwargs).arguments
    arguments: dict[str, Any] = {}
    for name, value in list(bound.items())[1:]:
        more = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
        arguments |= value if more else {name: value}
    first: Any = next(iter(arguments.values()), None)
    sized = isinstance(first, list) or getattr(first, "ndim", 0) > 0
    rows = len(first) if sized else 0
    return Call(model=model, arguments=arguments, rows=rows).read()


def equal(one: Any, other: Any) -> bool:
    """Return whether two tensors hold the same."""
    import torch

    return one is other or torch.equal(one, other)


def concat(values: Sequence[Any], rows: Sequence[int], device: Any) -> Any:
    """Return the same argument of several calls as one."""
    import torch

    first = values[0]
    if isinstance(first, torch.Tensor) and first.ndim == 0:
        each = zip(values, rows, strict=True)
        # A lone number may lie on the CPU, where models fetch it; rows may not.
        return torch.cat([v.reshape(1).expand(n) for v, n in each]).to(device)
    if isinstance(first, torch.Tensor):
        return torch.cat(list(values)) if len(first) == rows[0] else first
    if isinstance(first, dict):
        return {n: concat([v[n] for v in values], rows, device) for n in first}
    if isinstance(first, list) and len(first) == rows[0]:
        return [one for value in values for one in value]
    if isinstance(first, list | tuple):
        each_place = zip(*values, strict=True)
        return type(first)(concat(place, rows, device) for place in each_place)
    return first


def rows_of(output: Any, part: slice, total: int) -> Any:
    """Return a call's rows of what the joined call gave."""
    if output is None:
        return None
    if isinstance(output, tuple):
        return tuple(rows_of(one, part, total) for one in output)
    if isinstance(output, dict):
        return type(output)(**{n: rows_of(v, part, total) for n, v in output.items()})
    if len(output) != total:
        message = f"expected {total} rows of the denoiser, got {len(output)}"
        raise BatchError(message)
    return output[part]


def all_close(some: Any, others: Any) -> bool:
    """Return whether answers are the same up to rounding."""
    import torch

    if isinstance(others, torch.Tensor):
        if some.shape != others.shape or not others.numel():
            return bool(some.shape == others.shape)
        exact = others.device.type == "cpu" and others.dtype.itemsize >= 4  # noqa: PLR2004 - bytes of float32
        largest = float(others.float().nan_to_num().abs().max())
        tolerance = largest * (1e-4 if exact else 2e-2) + 1e-6
        some, others = some.float(), others.float()
        return torch.allclose(some, others, rtol=0, atol=tolerance, equal_nan=True)
    if isinstance(others, dict):
        return all_close(list(some.values()), list(others.values()))
    if isinstance(others, list | tuple):
        return all(map(all_close, some, others))
    return bool(some == others)
