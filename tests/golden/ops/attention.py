import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel


def attention(ins, o):
    q, k, v = ins
    causal, scale = o.get("is_causal", False), o.get("scale")
    with sdpa_kernel(SDPBackend.MATH):  # the one that is differentiable twice
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    s = q @ k.mT * (scale or 1 / math.sqrt(q.shape[-1]))
    if causal:
        s = s.masked_fill(torch.ones_like(s, dtype=torch.bool).triu(1), -math.inf)
    return y, s.logsumexp(-1).detach()


def attention_qkv(ins, o):
    b, t, c = ins[0].shape
    heads = o["heads"]
    q, k, v = ins[0].reshape(b, t, 3, heads, c // 3 // heads).permute(2, 0, 3, 1, 4)
    y, lse = attention((q, k, v), o)
    return y.transpose(1, 2).reshape(b, t, c // 3), lse


OPS = {"attention": attention, "attention_qkv": attention_qkv}
