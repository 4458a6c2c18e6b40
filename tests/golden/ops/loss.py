import torch
import torch.nn.functional as F


def classes_second(x):
    return x.movedim(-1, 1) if x.dim() > 1 else x


def target_of(t):
    return classes_second(t) if t.is_floating_point() else t.long()


def nll_loss(ins, o):
    x, t, w = ins
    return F.nll_loss(classes_second(x), t.long(), w, ignore_index=o.get("ignore_index", -100),
                      reduction=o.get("reduction", "mean"))


def cross_entropy(ins, o):
    x, t, w = ins
    y = F.cross_entropy(classes_second(x), target_of(t), w, reduction=o.get("reduction", "mean"),
                        ignore_index=o.get("ignore_index", -100),
                        label_smoothing=o.get("label_smoothing", 0.0))
    most = x.detach().max(-1).values if x.shape[-1] else x.new_zeros(x.shape[:-1])
    return y, most, (torch.logsumexp(x.detach(), -1) - most)


def class_slope(ins, o):
    g, t, w = ins
    logp = torch.zeros(*t.shape, int(o["classes"]), dtype=g.dtype, requires_grad=True)
    with torch.enable_grad():
        # cross entropy is linear in the log-probabilities: its slope at them, where they are given
        nll = F.nll_loss(classes_second(logp), t.long(), w, ignore_index=o.get("ignore_index", -100),
                         reduction=o.get("reduction", "mean"))
        s = o.get("label_smoothing", 0.0)
        each = -(logp * (1 if w is None else w)).sum(-1) / o["classes"]
        kept = t != o.get("ignore_index", -100)
        each = each * kept
        if o.get("reduction", "mean") == "mean":
            n = kept.sum() if w is None else w[t.clamp(min=0)][kept].sum()
            each = each.sum() / n
        elif o["reduction"] == "sum":
            each = each.sum()
        loss = (1 - s) * nll + s * each
        return torch.autograd.grad(loss, logp, g, create_graph=True)[0]


OPS = {"nll_loss": nll_loss, "cross_entropy": cross_entropy, "class_slope": class_slope}
