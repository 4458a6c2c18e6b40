-- Activations, away from the kinks at 0 where gradients are tried, and their fused gradients.
local list = {}
local function add(case) list[#list + 1] = case end

local options = {
  relu = { {} }, tanh = { {} }, sigmoid = { {} }, logsigmoid = { {} }, silu = { {} },
  leaky_relu = { {}, { negative_slope = 0.2 } },
  softplus = { {}, { beta = 3 }, { beta = 2, threshold = 1 } },
  elu = { {}, { alpha = 0.5 } },
  gelu = { {}, { approximate = 'tanh' } },
}
for _, op in ipairs { 'relu', 'leaky_relu', 'tanh', 'sigmoid', 'logsigmoid', 'silu', 'softplus',
                      'elu', 'gelu' } do
  for _, o in ipairs(options[op]) do
    local opts = next(o) and o or nil
    add { op = op, { 2, 4, distinct = true }, opts = opts }
    add { op = op, { 0, 3 }, opts = opts }
    add { op = op, { 1037, low = -20, high = 20 }, opts = opts, no_grad = 'size' }
    add { op = op, { 70003 }, opts = opts, no_grad = 'size', golden = false }
  end
  add { op = op, {} }
end
for _, op in ipairs { 'leaky_relu', 'tanh', 'sigmoid', 'silu', 'softplus', 'gelu' } do
  for _, o in ipairs(options[op]) do
    local opts = next(o) and o or nil
    add { op = op .. '_backward', { 37 }, { 37 }, opts = opts, golden = false,
          no_grad = 'checked as the gradient of ' .. op }
    add { op = op .. '_backward', { 70003 }, { 70003, low = -20, high = 20 }, opts = opts,
          golden = false, no_grad = 'size' }
  end
end
add { op = 'relu', { 9, int = true, low = -3, high = 3 }, no_grad = 'integers' }
add { op = 'relu_', { 37 }, golden = false }
add { op = 'tanh_', { 37 }, golden = false }
add { op = 'sigmoid_', { 37 }, golden = false }
add { op = 'leaky_relu_', { 37 }, opts = { negative_slope = 0.2 }, golden = false }
return list
