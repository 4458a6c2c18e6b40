import torch


def tensors(ins):
    return [torch.as_tensor(x) for x in ins]


NAMES = "eq ne lt le gt ge logical_and logical_or logical_xor logical_not".split()


def of(f):
    return lambda ins, o: f(*tensors(ins))


OPS = {name: of(getattr(torch, name)) for name in NAMES}
OPS["where"] = lambda ins, o: torch.where(*ins)
OPS["masked_fill"] = lambda ins, o: torch.where(ins[1], ins[2], ins[0])
