import torch


def zero(d):
    """A dimension, which counts from 1, as PyTorch counts."""
    return d - 1 if d > 0 else d


def dim(o):
    return zero(o["dim"])


def zeros(o, like):
    return torch.zeros(o["size"], dtype=like.dtype)


def source(ins):
    """src as far as the index reaches: PyTorch's gradient asks for equal shapes."""
    index, src = ins[1], ins[2]
    return src[tuple(slice(0, n) for n in index.shape)] if torch.is_tensor(src) else src


OPS = {
    "gather": lambda ins, o: ins[0].gather(dim(o), ins[1]),
    "scatter_sum": lambda ins, o: zeros(o, ins[1]).scatter_add(dim(o), ins[0], ins[1]),
    "scatter_add": lambda ins, o: ins[0].scatter_add(dim(o), ins[1], source(ins)),
    "scatter": lambda ins, o: ins[0].scatter(dim(o), ins[1], source(ins)),
    "index_select": lambda ins, o: ins[0].index_select(dim(o), ins[1]),
    "index_sum": lambda ins, o: zeros(o, ins[1]).index_add(dim(o), ins[0], ins[1]),
    "index_add": lambda ins, o: ins[0].index_add(dim(o), ins[1], ins[2], alpha=o.get("alpha", 1)),
    "index_copy": lambda ins, o: ins[0].index_copy(dim(o), ins[1], ins[2]),
    "one_hot": lambda ins, o: torch.nn.functional.one_hot(ins[0], (o or {}).get("num_classes", -1)),
}
