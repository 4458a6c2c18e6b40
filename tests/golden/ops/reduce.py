import torch


def dims(o, x, name="dim"):
    """An option that counts dimensions from 1, as PyTorch counts them; absent: all."""
    d = o.get(name)
    if d is None:
        return tuple(range(x.dim()))
    d = d if isinstance(d, list) else [d]
    return tuple(i - 1 if i > 0 else i for i in d)


OPS = {
    "sum": lambda ins, o: ins[0].sum() if o.get("dim") is None
    else ins[0].sum(dims(o, ins[0]), keepdim=o.get("keepdim", False)),
}
