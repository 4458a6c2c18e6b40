import torch

OPS = {
    "erf": lambda ins, o: torch.erf(ins[0]),
    "erfc": lambda ins, o: torch.erfc(ins[0]),
    "erfinv": lambda ins, o: torch.erfinv(ins[0]),
    "ndtr": lambda ins, o: torch.special.ndtr(ins[0]),
    "ndtri": lambda ins, o: torch.special.ndtri(ins[0]),
    "lgamma": lambda ins, o: torch.lgamma(ins[0]).detach(),
}
