import torch


def like(ins):
    """A number as a tensor of the other's type."""
    type_ = next(x.dtype for x in ins if torch.is_tensor(x))
    return [x if torch.is_tensor(x) else torch.tensor(x, dtype=type_) for x in ins]


OPS = {
    "add": lambda ins, o: torch.add(*like(ins)),
    "sub": lambda ins, o: torch.sub(*like(ins)),
    "mul": lambda ins, o: torch.mul(*like(ins)),
    "div": lambda ins, o: torch.div(*like(ins)),
    "pow": lambda ins, o: torch.pow(*ins),
    # torch.remainder has no derivative for a second tensor
    "remainder": lambda ins, o: ins[0] - ins[1] * torch.floor(ins[0] / ins[1]).detach(),
    "floor_divide": lambda ins, o: torch.floor_divide(*like(ins)),
    "maximum": lambda ins, o: torch.maximum(*like(ins)),
    "minimum": lambda ins, o: torch.minimum(*like(ins)),
    "lerp": lambda ins, o: torch.lerp(*ins),
    "addcmul": lambda ins, o: torch.addcmul(*ins, value=o.get("value", 1)),
    "addcdiv": lambda ins, o: torch.addcdiv(*ins, value=o.get("value", 1)),
}
