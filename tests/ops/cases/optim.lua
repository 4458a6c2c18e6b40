-- Optimiser steps on lists of parameters, norms and clipping.
local list = {}
local function add(case) list[#list + 1] = case end
local function tensors(o) -- of several shapes, one over a chunk
  local l = {}
  for i, s in ipairs { { 2, 3 }, { 17 }, {}, { 0, 4 }, { 16385 } } do
    l[i] = { low = o and o.low, high = o and o.high, bool = o and o.bool }
    for k, d in ipairs(s) do l[i][k] = d end
  end
  return { list = l }
end
local positive = { low = 0, high = 1 }

for _, o in ipairs {
  {}, { weight_decay = 0.1 }, { maximize = true, weight_decay = 0.1 },
  { momentum = 0.9, first = true }, { momentum = 0.9 }, { momentum = 0.9, weight_decay = 0.1 },
  { momentum = 0.9, dampening = 0.5 }, { momentum = 0.9, nesterov = true, weight_decay = 0.01 },
  { momentum = 0.9, nesterov = true, first = true, maximize = true },
} do
  o.lr = 0.3
  local ms = o.momentum and tensors()
  add { op = 'sgd_step_', tensors(), tensors(), ms, opts = o }
  add { op = 'sgd_step_', tensors(), tensors(), ms, tensors { bool = true }, opts = o }
  add { op = 'sgd_step_', tensors(), tensors(), ms, tensors(), opts = o }
end
for _, o in ipairs {
  { step = 1 }, { step = 5, lr = 0.1 }, { step = 2, weight_decay = 0.3, lr = 0.1 },
  { step = 2, weight_decay = 0.3, lr = 0.1, decoupled = false },
  { step = 3, beta1 = 0.5, beta2 = 0.7, eps = 0.1, maximize = true },
} do
  add { op = 'adamw_step_', tensors(), tensors(), tensors(), tensors(positive), opts = o }
  add { op = 'adamw_step_', tensors(), tensors(), tensors(), tensors(positive), tensors(positive),
        opts = o }
  add { op = 'adamw_step_', tensors(), tensors(), tensors(), tensors(positive), false,
        tensors { bool = true }, opts = o }
  add { op = 'adamw_step_', tensors(), tensors(), tensors(), tensors(positive), tensors(positive),
        tensors { bool = true }, opts = o }
end
add { op = 'total_norm', { list = { { 2, 3 }, { 4 }, {}, { 0 } } } }
for _, p in ipairs { 1, 2, math.huge } do
  add { op = 'total_norm', tensors(), opts = { norm_type = p }, no_grad = 'size' }
end
add { op = 'clip_norm_', tensors(), { low = 3, high = 3.5 }, opts = { max_norm = 2 } }
add { op = 'clip_norm_', tensors(), { low = 3, high = 3.5 }, opts = { max_norm = 4 } }
return list
