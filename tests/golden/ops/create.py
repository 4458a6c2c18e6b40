import torch

OPS = {
    "full": lambda ins, o: torch.full(o["size"], o["value"], dtype=torch.float64),
    "zeros": lambda ins, o: torch.zeros(o["size"], dtype=torch.float64),
    "ones": lambda ins, o: torch.ones(o["size"], dtype=torch.float64),
    "zeros_like": lambda ins, o: torch.zeros_like(ins[0]),
    "ones_like": lambda ins, o: torch.ones_like(ins[0]),
    "full_like": lambda ins, o: torch.full_like(ins[0], o["value"]),
    "arange": lambda ins, o: torch.arange(o["start"], o["end"], o.get("step", 1),
                                          dtype=torch.float64),
    "linspace": lambda ins, o: torch.linspace(o["start"], o["end"], o["steps"],
                                              dtype=torch.float64),
    "eye": lambda ins, o: torch.eye(o["n"], o.get("m", o["n"]), dtype=torch.float64),
}
