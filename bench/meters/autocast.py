"""Makes autocast on CPU tensors cast what CUDA's autocast casts.

Every device has lists of its own: which operators run in half precision, which in float32, which in their arguments'
widest type (torch.amp, "Autocast Op Reference"). CUDA's operators are registered in every build of torch and are read
there; their rules are those of ATen's autocast_mode.h.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

HALF = {
    *("addmv", "addr", "chain_matmul", "einsum", "linalg_multi_dot", "mv"),
    *("_convolution", "convolution", "cudnn_convolution", "cudnn_convolution_transpose"),
    *("_thnn_fused_gru_cell", "_thnn_fused_lstm_cell", "gru_cell", "lstm_cell", "rnn_relu_cell", "rnn_tanh_cell"),
    "_scaled_dot_product_flash_attention",
}
"""In half precision on CUDA, and not on a CPU."""
WIDEST = {
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "scatter_add"),
    *("tensordot", "vdot"),
}
"""In the widest type of their arguments. The rest of CUDA's list runs in float32."""
FLOAT32_RESULT = {
    "cumprod",
    "cumsum",
    "linalg_matrix_norm",
    "linalg_vector_norm",
    "log_softmax",
    "prod",
    "softmax",
    "sum",
}
"""Not cast, but asked for a float32 result unless they are asked for another one."""


@functools.cache
def autocast_kernels() -> dict[str, Callable]:
    """The kernels with which torch.autocast("cpu") casts as torch.autocast("cuda") would, by operator and overload:
    where only one device's list has an operator, and where both have it under different rules."""
    names = [name.removeprefix("aten::") for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::")]
    cpu, cuda = (
        {name for name in names if torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", key)}
        for key in ("AutocastCPU", "AutocastCUDA")
    )
    differ = {name for name in cpu & cuda if name.partition(".")[0] in WIDEST | FLOAT32_RESULT}
    return dict.fromkeys(cpu - cuda, torch.library.fallthrough_kernel) | {
        name: _kernel(name) for name in (cuda - cpu) | differ
    }


def _kernel(name: str) -> Callable:
    operator, _, overload = name.partition(".")
    run = getattr(getattr(torch.ops.aten, operator), overload or "default")
    rule: Callable
    if operator in FLOAT32_RESULT:
        rule = _with_float32_result
    elif operator == "norm":
        rule = _norm
    elif operator in HALF:
        rule = _in_half
    elif operator in WIDEST:
        rule = _in_widest
    else:
        rule = _in_float32

    def kernel(*args, **kwargs):
        with torch.autocast("cpu", enabled=False):
            return rule(run, args, kwargs)

    return kernel


def _in_float32(run: Callable, args: tuple, kwargs: dict):
    return run(*_cast(args, torch.float32), **_cast(kwargs, torch.float32))


def _in_half(run: Callable, args: tuple, kwargs: dict):
    dtype = torch.get_autocast_dtype("cpu")
    return run(*_cast(args, dtype), **_cast(kwargs, dtype))


def _in_widest(run: Callable, args: tuple, kwargs: dict):
    wide = any(x.dtype == torch.float32 for x in args if _castable(x))
    return _in_float32(run, args, kwargs) if wide else run(*args, **kwargs)


def _with_float32_result(run: Callable, args: tuple, kwargs: dict):
    asked = kwargs.get("dtype") or any(isinstance(arg, torch.dtype) for arg in args)
    return run(*args, **kwargs) if asked or not _castable(args[0]) else run(*args, **kwargs | {"dtype": torch.float32})


def _norm(run: Callable, args: tuple, kwargs: dict):
    """As _with_float32_result; the type is an argument of other overloads."""
    if not _castable(args[0]):
        return run(*args, **kwargs)
    p, *rest = args[1:] or (2,)
    return torch.norm(args[0], p, *rest, **kwargs | {"dtype": torch.float32})


def _castable(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float64


def _cast(value, dtype: torch.dtype):
    """Every tensor of an operator's arguments in `dtype`, doubles and integers as they are."""
    if isinstance(value, dict):
        return {name: _cast(x, dtype) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [_cast(x, dtype) for x in value]
    return value.to(dtype) if _castable(value) else value
