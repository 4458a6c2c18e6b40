import torch.nn.functional as F

OPS = {
    "relu": lambda ins, o: F.relu(ins[0]),
    "leaky_relu": lambda ins, o: F.leaky_relu(ins[0], **o),
    "tanh": lambda ins, o: F.tanh(ins[0]),
    "sigmoid": lambda ins, o: F.sigmoid(ins[0]),
    "logsigmoid": lambda ins, o: F.logsigmoid(ins[0]),
    "silu": lambda ins, o: F.silu(ins[0]),
    "softplus": lambda ins, o: F.softplus(ins[0], **o),
    "elu": lambda ins, o: F.elu(ins[0], **o),
    "gelu": lambda ins, o: F.gelu(ins[0], **o),
}
