"""Questions about the names and shapes of a file's tensors, as the sniffers of this folder ask them."""

from collections.abc import Iterable, Mapping

from catalog.files.headers import TensorInfo

Tensors = Mapping[str, TensorInfo]


def has_prefix(names: Iterable[str], *prefixes: str) -> bool:
    """Whether any name begins with one of the prefixes."""
    return any(name.startswith(prefixes) for name in names)


def has_suffix(names: Iterable[str], *suffixes: str) -> bool:
    """Whether any name ends with one of the suffixes."""
    return any(name.endswith(suffixes) for name in names)


def has_fragment(names: Iterable[str], *fragments: str) -> bool:
    """Whether any name contains one of the fragments."""
    for name in names:
        for fragment in fragments:
            if fragment in name:
                return True
    return False


def first_shape(tensors: Tensors, *names: str) -> tuple[int, ...]:
    """The shape of the first of these tensors that the file has; () where it has none of them."""
    for name in names:
        if name in tensors:
            return tensors[name].shape
    return ()


def first_width(tensors: Tensors, suffix: str) -> int:
    """The input width of the first weight matrix whose name ends so; 0 where there is none."""
    for name, info in tensors.items():
        if name.endswith(suffix) and len(info.shape) == 2:
            return info.shape[1]
    return 0
