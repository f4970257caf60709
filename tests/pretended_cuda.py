"""A GPU that is only pretended: what is to lie on `cuda` lies in this machine's memory, and is computed there.

While `pretended()` is open, torch says that there is one GPU. Every tensor has a place, the CPU or cuda:0, by torch's
own rules: where a factory is told to make it (the CPU if it is told nothing), where it is moved to, where its inputs
are. As on a real one, inputs of two places are refused, numpy sees none of the GPU's tensors, a generator serves its
own device, and what draws without one draws from the device's global generator, which is not the CPU's. Inside a
backward pass nobody looks. For builds of torch without CUDA.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
NAME = "a pretended GPU"
BYTES = 8 * 2**30
MOVES = {"to", "cpu", "cuda"}
BETWEEN = {"copy_", "_has_compatible_shallow_copy_type", "_pack_padded_sequence", "gru"}
"""May read another device: copies, and what takes lengths on the CPU."""


class Place(TorchFunctionMode):
    """Knows which tensors are said to be on the GPU, and the state of its global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.there = WeakTensorKeyDictionary()
        self.state = torch.Generator().manual_seed(0).get_state()

    def of(self, tensor: Tensor) -> torch.device:
        return CUDA if tensor in self.there else tensor.device

    def put(self, out, device: torch.device):
        """`out`, its tensors said to be on the device, which is the GPU or where they really are."""
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and device == CUDA:
                self.there[tensor] = True
            elif isinstance(tensor, Tensor):
                self.there.pop(tensor, None)
        return out

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), function.__name__
        of_property = getattr(getattr(function, "__self__", None), "__name__", "")
        if name == "__get__" and of_property in ("device", "is_cuda"):
            place = self.of(args[0])
            return place if of_property == "device" else place == CUDA
        if name in ("numpy", "__array__") and self.of(args[0]) == CUDA:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in MOVES:
            return self.move(function, args, kwargs)
        if name == "__iter__":
            return iter(args[0].unbind())
        looked_at = args[:1] if name in ("__deepcopy__", "__get__", "__set__") else (args, kwargs)
        place = self.common(name, [leaf for leaf in tree_leaves(looked_at) if isinstance(leaf, Tensor)])
        if kwargs.get("device") is not None:
            place = located(kwargs["device"])
            kwargs["device"] = CPU if place == CUDA else place
        generator = kwargs.get("generator")
        if generator is not None and generator.device != place:
            raise RuntimeError(f"Expected a '{place}' device type for generator but found '{generator.device}'")
        if name == "__set__" and of_property in ("data", "grad") and args[1] is not None:
            self.put(args[0], self.of(args[1]))
        draws = self.global_generator() if place == CUDA and generator is None else contextlib.nullcontext()
        with draws:
            out = self.put(function(*args, **kwargs), place)
        if name == "_pack_padded_sequence":
            self.put(out[1], CPU)  # sizes
        return out

    def common(self, name: str, tensors: list[Tensor]) -> torch.device:
        """Where the inputs are; a number of the CPU may go with anything, and an index of the CPU with the GPU's."""
        places = [self.of(tensor) for tensor in tensors if tensor.dim() or self.of(tensor) == CUDA]
        if name in BETWEEN or (name == "__getitem__" and self.of(tensors[0]) == CUDA):
            return self.of(tensors[0])
        if CUDA in places and len(set(places)) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found two, in {name}")
        return places[0] if places else CPU

    def move(self, function, args: tuple, kwargs: dict) -> Tensor:
        tensor, *rest = args
        given = [*rest, *kwargs.values()]
        asked = [located(value) for value in given if isinstance(value, torch.device | str)]
        asked += [self.of(value) for value in given if isinstance(value, Tensor)]
        asked += [{"cpu": CPU, "cuda": CUDA}[function.__name__]] if function.__name__ in ("cpu", "cuda") else []
        types = [value for value in given if isinstance(value, torch.dtype)]
        types += [value.dtype for value in given if isinstance(value, Tensor)]
        before, dtype = self.of(tensor), types[0] if types else tensor.dtype
        place = asked[0] if asked else before
        if place == before and dtype == tensor.dtype:
            return tensor
        moved = tensor.to(CPU if place == CUDA else place, dtype)
        return self.put(moved.clone() if moved is tensor else moved, place)

    @contextlib.contextmanager
    def global_generator(self) -> Iterator[None]:
        """While open, draws are the GPU's."""
        of_cpu = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(of_cpu)


def located(device: torch.device | str) -> torch.device:
    """With the number that a GPU's tensors have."""
    return CUDA if torch.device(device).type == "cuda" else torch.device(device)


class Generator(torch.Generator):
    def __new__(cls, device=CPU):
        made = super().__new__(cls)
        made.place = located(device)
        return made

    def __init__(self, device=CPU):
        pass

    @property
    def device(self):
        return self.place


@contextlib.contextmanager
def pretended() -> Iterator[Place]:
    place, generator = Place(), torch.Generator
    new_parameter, from_numpy = nn.Parameter.__new__, torch.from_numpy

    def parameter(cls, data=None, requires_grad=True):
        """Without a call that a mode sees."""
        made = new_parameter(cls, data, requires_grad)
        return made if data is None else place.put(made, place.of(data))

    def seed_all(seed: int) -> None:
        place.state = generator().manual_seed(seed).get_state()

    def keep(state: Tensor, _device: object) -> None:
        generator().set_state(state)  # refuses what is none
        place.state = state.clone()

    stats = {f"{name}_bytes.all.peak": 7 * 2**20 for name in ("allocated", "requested", "active", "reserved")}
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_name": lambda _: NAME,
        "mem_get_info": lambda _: (0, BYTES),
        "get_rng_state": lambda _: place.state.clone(),
        "set_rng_state": keep,
        "manual_seed_all": seed_all,
        "synchronize": lambda _: None,
        "memory_allocated": lambda _: 2**20,
        "memory_stats": lambda _: stats,
        "reset_peak_memory_stats": lambda _: None,
    }
    with contextlib.ExitStack() as stack:
        for name, value in cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(torch, "from_numpy", lambda array: place.put(from_numpy(array), CPU)))
        stack.enter_context(mock.patch.object(nn.Parameter, "__new__", parameter))
        stack.enter_context(place)
        yield place
