import torch


def dims(o, x):
    """The option dim, which counts from 1, as PyTorch counts; absent: all."""
    d = o.get("dim")
    if d is None:
        return tuple(range(x.dim()))
    d = d if isinstance(d, list) else [d]
    return tuple(i - 1 if i > 0 else i for i in d)


def over(function):
    def run(ins, o):
        x = ins[0]
        if x.dim() == 0:
            return function(x.reshape(1), (0,), False, o)
        return function(x, dims(o, x), o.get("keepdim", False), o)
    return run


def one(function):
    return lambda ins, o: tuple(function(ins[0], dims(o, ins[0])[0], o.get("keepdim", False)))


OPS = {
    "sum": over(lambda x, d, k, o: torch.sum(x, d, k)),
    "mean": over(lambda x, d, k, o: torch.mean(x, d, k)),
    "var": over(lambda x, d, k, o: torch.var(x, d, correction=o.get("correction", 1), keepdim=k)),
    "std": over(lambda x, d, k, o: torch.std(x, d, correction=o.get("correction", 1), keepdim=k)),
    "amax": over(lambda x, d, k, o: torch.amax(x, d, k)),
    "amin": over(lambda x, d, k, o: torch.amin(x, d, k)),
    "norm": over(lambda x, d, k, o: torch.linalg.vector_norm(x, float(o.get("ord", 2) or "inf"),
                                                             d, k)),
    "logsumexp": over(lambda x, d, k, o: torch.logsumexp(x, d, k)),
    "any": over(lambda x, d, k, o: torch.any(x, d[0], k) if o.get("dim") else torch.any(x)),
    "all": over(lambda x, d, k, o: torch.all(x, d[0], k) if o.get("dim") else torch.all(x)),
    "max_dim": one(torch.max),
    "min_dim": one(torch.min),
}
