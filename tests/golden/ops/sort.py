import torch


def zero(d):
    """A dimension, which counts from 1, as PyTorch counts."""
    return d - 1 if d is not None and d > 0 else d


def dim(o):
    return zero(o.get("dim", -1))


def topk(ins, o):
    return torch.topk(ins[0], o["k"], dim(o), o.get("largest", True))


def cumsum(ins, o):
    x, d = ins[0], dim(o)
    if o.get("reverse"):
        return x.flip(d).cumsum(d).flip(d)
    return x.cumsum(d)


OPS = {
    "sort": lambda ins, o: torch.sort(ins[0], dim=dim(o), descending=o.get("descending", False),
                                      stable=True),
    "topk": topk,
    "kthvalue": lambda ins, o: torch.kthvalue(ins[0], o["k"], dim(o), o.get("keepdim", False)),
    "argmax": lambda ins, o: torch.argmax(ins[0], zero(o.get("dim")), o.get("keepdim", False)),
    "argmin": lambda ins, o: torch.argmin(ins[0], zero(o.get("dim")), o.get("keepdim", False)),
    "searchsorted": lambda ins, o: torch.searchsorted(ins[0], ins[1], right=o.get("right", False)),
    "cumsum": cumsum,
}
