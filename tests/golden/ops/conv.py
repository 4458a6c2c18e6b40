import torch
import torch.nn.functional as F


def last(x):
    """n,c,h,w as n,h,w,c; weights out,in,kh,kw as out,kh,kw,in."""
    return x.permute(0, 2, 3, 1)


def first(x):
    return x.permute(0, 3, 1, 2)


def options(o):
    return {k: v for k, v in o.items() if k != "size"}


def conv(x, w, b, o):
    return last(F.conv2d(first(x), first(w), b, **options(o)))


def like(x, w, y, o):
    """Of x and w one is None; a tensor of the size that size and y give in its place."""
    h, k = o["size"]
    g = o.get("groups", 1)
    if x is None:
        return torch.zeros(y.shape[0], h, k, w.shape[3] * g, dtype=y.dtype, requires_grad=True)
    return torch.zeros(y.shape[3], h, k, x.shape[3] // g, dtype=y.dtype, requires_grad=True)


def conv2d_input(ins, o):
    gy, w = ins
    x = like(None, w, gy, o)
    return torch.autograd.grad(conv(x, w, None, o), x, gy, create_graph=True)[0]


def conv2d_weight(ins, o):
    x, gy = ins
    w = like(x, None, gy, o)
    return torch.autograd.grad(conv(x, w, None, o), w, gy, create_graph=True)[0]


OPS = {
    "conv2d": lambda ins, o: conv(*ins, o),
    "conv2d_input": conv2d_input,
    "conv2d_weight": conv2d_weight,
    "conv2d_add_": lambda ins, o: ins[0] + conv(ins[1], ins[2], None, o),
    "conv2d_input_add_": lambda ins, o: ins[0] + conv2d_input(ins[1:], o),
    "conv_transpose2d": lambda ins, o: last(F.conv_transpose2d(first(ins[0]), first(ins[1]), ins[2],
                                                               **o)),
}
