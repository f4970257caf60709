"""Makes a run without a GPU allocate what CUDA would.

Some operations are composed differently on CUDA than elsewhere, with other tensors kept for the backward pass. While
`cuda_lowering()` is open they take the CUDA form:

- dropout is native_dropout, whose mask is one byte an element (elsewhere it is a float tensor);
- scaled_dot_product_attention is the memory-efficient kernel in float32, the flash kernel in half precision;
- under autocast, layer_norm, softmax and cosine_similarity run in float32 (CUDA's autocast casts them up).

The functions of torch.nn.functional are replaced rather than intercepted by a torch-function mode: a mode is switched
off inside multi_head_attention_forward, and the attention's own dropout would be missed.
"""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F


@contextlib.contextmanager
def cuda_lowering(precision: str = "fp32") -> Iterator[None]:
    """While open, torch.nn.functional composes operations as on a CUDA device. `precision`: see bench.profiles."""
    lowered: dict[str, Callable] = {"dropout": dropout, "scaled_dot_product_attention": attention}
    if precision != "fp32":
        lowered |= {name: in_float32(getattr(F, name)) for name in ("layer_norm", "softmax", "cosine_similarity")}
    with contextlib.ExitStack() as stack:
        for name, function in lowered.items():
            stack.enter_context(mock.patch.object(F, name, function))
        yield


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    recorded = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if query.dtype == torch.float32 or attn_mask is not None:
        if attn_mask is not None:
            attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, attn_mask, recorded, dropout_p, is_causal, scale=scale
        )[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p, is_causal, False, scale=scale
    )[0]


def in_float32(function: Callable) -> Callable:
    def cast(*args, **kwargs):
        args, kwargs = torch.utils._pytree.tree_map_only(
            Tensor, lambda x: x.float() if x.is_floating_point() else x, (args, kwargs)
        )
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs)

    return cast
