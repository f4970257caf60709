"""Makes a run without a GPU allocate what CUDA would.

Some operations are composed differently on CUDA than elsewhere, with other tensors kept for the backward pass. While
`cuda_lowering()` is open they take the CUDA form:

- dropout is native_dropout, whose mask is one byte an element (elsewhere it is a float tensor);
- scaled_dot_product_attention is the memory-efficient kernel in float32 and where there is a mask, the flash kernel in
  half precision without one;
- autocast casts as CUDA's does (see autocast.py).

The operators are replaced in torch's dispatcher, so that every caller takes the CUDA form, torch's C++ code too.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.meters.autocast import autocast_kernels

ALIGNMENT = 8
"""Elements that the rows of an attention mask are aligned to."""
UNSEEN = (
    *("view", "_unsafe_view", "as_strided", "t", "transpose.int", "permute", "expand", "unsqueeze", "squeeze.dim"),
    *("select.int", "slice.Tensor", "narrow", "split.Tensor", "split_with_sizes"),
    "_local_scalar_dense",
)
"""Operators whose results are views, or no tensors: half of all that run."""


@contextlib.contextmanager
def cuda_lowering() -> Iterator[None]:
    """While open, torch composes operations as on a CUDA device."""
    composed: dict[str, Callable] = {"dropout": dropout, "scaled_dot_product_attention": attention}
    with replaced("CompositeImplicitAutograd", composed), replaced("AutocastCPU", autocast_kernels()):
        yield


@contextlib.contextmanager
def views_unseen() -> Iterator[None]:
    """While open, dispatch modes do not see UNSEEN. They allocate nothing and compute nothing, and passing over a mode
    takes a fraction of the time."""
    with replaced("Python", dict.fromkeys(UNSEEN, torch.library.fallthrough_kernel)):
        yield


@contextlib.contextmanager
def replaced(key: str, kernels: Mapping[str, Callable]) -> Iterator[None]:
    """While open, operators of ATen, each by name and overload, have other kernels for a dispatch key."""
    library = torch.library.Library("aten", "IMPL", key)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators", UserWarning)
            for name, kernel in kernels.items():
                library.impl(name, kernel)
        yield
    finally:
        library._destroy()


def dropout(input: Tensor, p: float, train: bool) -> Tensor:
    if not train or p == 0 or input.numel() == 0:
        return input
    return torch.native_dropout(input, p, True)[0] if p < 1 else input * torch.zeros((), device=input.device)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is None and query.dtype != torch.float32:
        return torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, False, scale=scale
        )[0]
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if attn_mask is not None:
        attn_mask = _aligned(_as_bias(attn_mask, query)).expand(*query.shape[:-1], key.shape[-2])
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, recorded, dropout_p, is_causal, scale=scale
    )[0]


def _as_bias(mask: Tensor, query: Tensor) -> Tensor:
    """A bool mask as what is added to the logits."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), -torch.inf)


def _aligned(mask: Tensor) -> Tensor:
    """The mask, copied into rows of a multiple of ALIGNMENT where its rows are not aligned."""
    *outer, last = mask.stride()
    if last == 1 and all(stride % ALIGNMENT == 0 for stride in outer):
        return mask
    length = mask.shape[-1]
    return F.pad(mask, (0, ALIGNMENT - length % ALIGNMENT))[..., :length]
