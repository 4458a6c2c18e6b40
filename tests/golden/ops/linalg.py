import torch


def matmul(ins, o):
    a = ins[0].mT if o.get("ta") else ins[0]
    b = ins[1].mT if o.get("tb") else ins[1]
    return torch.matmul(a, b)


def linear(ins, o):
    x, w, *bias = ins
    return torch.nn.functional.linear(x, w.T if o.get("tw") else w, *bias)


def solve(ins, o):
    a = ins[0].mT if o.get("ta") else ins[0]
    return torch.linalg.solve(a, ins[1], left=o.get("left", True))


OPS = {
    "matmul": matmul,
    "linear": linear,
    "linalg_solve": solve,
    "linalg_cholesky": lambda ins, o: torch.linalg.cholesky((ins[0] + ins[0].mT) / 2,
                                                            upper=o.get("upper", False)),
}
