import torch
import torch.nn.functional as F


def zero(d):
    """A dimension or position, which counts from 1, as PyTorch counts."""
    return d - 1 if d > 0 else d


def part(x, o, length):
    """The index of `length` slices of dimension dim from start on, every step-th."""
    dim = zero(o["dim"]) % x.dim()
    start = zero(o["start"])
    start = start + x.shape[dim] if start < 0 else start
    step = o.get("step", 1)
    return (slice(None),) * dim + (slice(start, start + length * step, step),)


def narrow(ins, o):
    return ins[0][part(ins[0], o, o["length"])]


def unnarrow(ins, o):
    x = ins[0]
    y = torch.zeros(o["size"], dtype=x.dtype)
    y[part(y, o, x.shape[zero(o["dim"])])] = x
    return y


def slice_scatter(ins, o):
    x, src = ins
    dim, start = zero(o.get("dim", 1)), zero(o.get("start", 1))
    last = o.get("last", -1)
    end = last if last > 0 else last + 1 + x.shape[dim]  # included here, excluded there
    return torch.slice_scatter(x, src, dim, start, end, o.get("step", 1))


def pad(ins, o):
    x, pads, mode = ins[0], o["pad"] or [], o.get("mode", "constant")
    if mode == "constant":
        return F.pad(x, pads, "constant", o.get("value", 0))
    padded = len(pads) // 2  # PyTorch wants a batch and channels before them
    batch = x.reshape((1, -1) + tuple(x.shape[x.dim() - padded:]))
    return F.pad(batch, pads, mode).reshape(padded_shape(x, pads))


def padded_shape(x, pads):
    shape = list(x.shape)
    for i in range(0, len(pads), 2):
        shape[-1 - i // 2] += pads[i] + pads[i + 1]
    return shape


def unpad(ins, o):
    """The gradient of pad, and that is linear."""
    g = ins[0]
    x = torch.zeros(o["size"], dtype=g.dtype, requires_grad=True)
    y = pad([x], o)
    return torch.autograd.grad(y, x, g, create_graph=True)[0]


OPS = {
    "narrow": narrow,
    "select": lambda ins, o: ins[0].select(zero(o["dim"]), zero(o["index"])),
    "unnarrow": unnarrow,
    "slice_scatter": slice_scatter,
    "select_scatter": lambda ins, o: torch.select_scatter(ins[0], ins[1], zero(o["dim"]),
                                                          zero(o["index"])),
    "pad": pad,
    "unpad": unpad,
}
