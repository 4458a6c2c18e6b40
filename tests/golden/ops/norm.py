import torch
import torch.nn.functional as F


def batch_norm(ins, o, relu=False):
    x, w, b, rm, rv, residual = (ins + [None])[:6]
    eps, training = o.get("eps", 1e-5), o.get("training", False)
    dims = list(range(x.dim() - 1))
    xc = x.movedim(-1, 1)
    if w is None and b is not None:  # PyTorch's second gradient fails without weight
        w = torch.ones_like(b)
    if training:
        mean, var = x.mean(dims).detach(), x.var(dims, correction=0).detach()
    else:
        mean, var = rm.clone(), rv.clone()
    y = F.batch_norm(xc, rm, rv, w, b, training, o.get("momentum", 0.1), eps)
    y = y.movedim(1, -1)
    if residual is not None:
        y = y + residual
    mask = ()
    if relu:
        y = F.relu(y)
        bits = torch.zeros((y.numel() + 7) // 8 * 8, dtype=y.dtype)
        bits[:y.numel()] = (y.detach() > 0).flatten()
        mask = (bits.view(-1, 8) @ (2.0 ** torch.arange(8, dtype=y.dtype)),)
    changed = () if rm is None else (rm, rv)
    return (y, mean, (var + eps).rsqrt()) + mask + changed


OPS = {
    "batch_norm": batch_norm,
    "batch_norm_relu": lambda ins, o: batch_norm(ins, o, relu=True),
}
