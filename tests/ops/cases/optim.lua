-- Optimiser steps on lists of parameters, norms and clipping.
local list = {}
local function add(case) list[#list + 1] = case end
local big = { 16385 } -- over a chunk
local function tensors(o, last)
  local l = {}
  for i, s in ipairs { { 2, 3 }, { 7 }, {}, { 0, 4 }, last } do
    l[i] = { low = o and o.low, high = o and o.high, bool = o and o.bool }
    for k, d in ipairs(s) do l[i][k] = d end
  end
  return { list = l }
end
local positive, mask = { low = 0, high = 1 }, { bool = true }

for _, o in ipairs {
  {}, { weight_decay = 0.1 }, { maximize = true, weight_decay = 0.1 },
  { momentum = 0.9, first = true }, { momentum = 0.9 }, { momentum = 0.9, weight_decay = 0.1 },
  { momentum = 0.9, dampening = 0.5 }, { momentum = 0.9, nesterov = true, weight_decay = 0.01 },
  { momentum = 0.9, nesterov = true, first = true, maximize = true },
} do
  o.lr = 0.3
  for _, last in ipairs { { 1 }, big } do
    local ps, gs, ms = tensors({}, last), tensors({}, last), o.momentum and tensors({}, last)
    add { op = 'sgd_step_', ps, gs, ms, opts = o }
    add { op = 'sgd_step_', ps, gs, ms, tensors(mask, last), opts = o }
    add { op = 'sgd_step_', ps, gs, ms, tensors({}, last), opts = o }
  end
end
for _, o in ipairs {
  { step = 1 }, { step = 5, lr = 0.1 }, { step = 2, weight_decay = 0.3, lr = 0.1 },
  { step = 2, weight_decay = 0.3, lr = 0.1, decoupled = false },
  { step = 3, beta1 = 0.5, beta2 = 0.7, eps = 0.1, maximize = true },
} do
  for _, last in ipairs { { 1 }, big } do
    local ps, gs, ms = tensors({}, last), tensors({}, last), tensors({}, last)
    local vs, mosts = tensors(positive, last), tensors(positive, last)
    add { op = 'adamw_step_', ps, gs, ms, vs, opts = o }
    add { op = 'adamw_step_', ps, gs, ms, vs, mosts, opts = o }
    add { op = 'adamw_step_', ps, gs, ms, vs, false, tensors(mask, last), opts = o }
    add { op = 'adamw_step_', ps, gs, ms, vs, mosts, tensors(mask, last), opts = o }
  end
end
add { op = 'total_norm', { list = { { 2, 3 }, { 4 }, {}, { 0 } } } }
for _, last in ipairs { { 1 }, big } do
  for _, p in ipairs { 1, 2, math.huge } do
    add { op = 'total_norm', tensors({}, last), opts = { norm_type = p }, no_grad = 'size' }
  end
  for _, most in ipairs { 2, 4 } do
    add { op = 'clip_norm_', tensors({}, last), { low = 3, high = 3.5 },
          opts = { max_norm = most } }
  end
end
return list
