import torch.nn.functional as F


def plain(function):
    def run(ins, o):
        return function(*ins, **o)
    return run


def bce(ins, o):
    x, t, w, p = ins
    return F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p, **o)


def cosine(ins, o):
    dim = o.get("dim", 2)
    return F.cosine_similarity(*ins, dim - 1 if dim > 0 else dim, o.get("eps", 1e-8))


OPS = {
    "mse_loss": plain(F.mse_loss),
    "l1_loss": plain(F.l1_loss),
    "smooth_l1_loss": plain(F.smooth_l1_loss),
    "huber_loss": plain(F.huber_loss),
    "kl_div": plain(F.kl_div),
    "binary_cross_entropy_with_logits": bce,
    "cosine_similarity": cosine,
}
