import torch


def masked_spread(ins, o):
    return torch.zeros(ins[1].shape, dtype=ins[0].dtype).masked_scatter(ins[1], ins[0])


OPS = {
    "count_nonzero": lambda ins, o: torch.count_nonzero(ins[0]),
    "nonzero": lambda ins, o: torch.nonzero(ins[0]),
    "masked_select": lambda ins, o: torch.masked_select(ins[0], ins[1]),
    "masked_spread": masked_spread,
    "bincount": lambda ins, o: torch.bincount(ins[0], ins[1], o.get("minlength", 0)),
}
