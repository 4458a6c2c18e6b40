import torch.nn.functional as F


def layer_norm(ins, o):
    x, w, b = ins
    eps = o.get("eps", 1e-5)
    shape = list(o["normalized_shape"])
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean, var = x.mean(dims).detach(), x.var(dims, correction=0).detach()
    return F.layer_norm(x, shape, w, b, eps), mean, (var + eps).rsqrt()


OPS = {"layer_norm": layer_norm}
