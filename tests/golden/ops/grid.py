import torch
import torch.nn.functional as F


def taps(at, size, align, order):
    """Two neighbours' places and weights along one dimension."""
    pixel = (at + 1) * (size - 1) / 2 if align else ((at + 1) * size - 1) / 2
    slope = (size - 1) / 2 if align else size / 2
    low = pixel.detach().floor()
    t = pixel - low
    weights = (-slope + 0 * t, slope + 0 * t) if order else (1 - t, t)
    return [(low.long() + i, weights[i]) for i in range(2)]


def grid_sample(ins, o):
    """By hand, since PyTorch's own cannot be differentiated twice; checked against it here."""
    x, grid = ins
    n, h, w, c = x.shape
    align, order = o.get("align_corners", False), o.get("order", 0)
    order = order if isinstance(order, (list, tuple)) else [order, order]
    image = torch.arange(n)[:, None, None].expand(grid.shape[:3])
    y = x.new_zeros(*grid.shape[:3], c) + 0 * (x.sum() + grid.sum())
    for i, down in taps(grid[..., 1], h, align, order[0]):
        for j, across in taps(grid[..., 0], w, align, order[1]):
            inside = (i >= 0) & (i < h) & (j >= 0) & (j < w)
            if x.numel() == 0:
                continue
            pixel = x[image, i.clamp(0, h - 1), j.clamp(0, w - 1)]
            y = y + pixel * (down * across * inside)[..., None]
    if order == [0, 0] and min(n, h, w, c) > 0:
        peer = F.grid_sample(x.permute(0, 3, 1, 2), grid, align_corners=align)
        assert torch.allclose(peer.permute(0, 2, 3, 1), y, rtol=0, atol=1e-14)
        for k in range(2):
            if ins[k].requires_grad:
                a, b = (torch.autograd.grad(v.cos().sum(), ins[k], retain_graph=True)[0]
                        for v in (peer, y))
                assert torch.allclose(a, b, rtol=0, atol=1e-13)
    return y


OPS = {"grid_sample": grid_sample}
