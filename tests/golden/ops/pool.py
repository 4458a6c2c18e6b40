import torch.nn.functional as F


def nhwc(function):
    """function on n,c,h,w."""
    return lambda ins, o: function(ins[0].permute(0, 3, 1, 2), **o).permute(0, 2, 3, 1)


OPS = {
    "max_pool2d": nhwc(F.max_pool2d),
    "avg_pool2d": nhwc(F.avg_pool2d),
    "adaptive_avg_pool2d": nhwc(F.adaptive_avg_pool2d),
}
