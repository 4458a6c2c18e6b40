-- Draws depend on the stream alone: cpu and ref agree to the bit, so the tolerance is 0. The scale
-- of dropout is rounded once more in f32.
local list = {}
local function add(case)
  case.tolerance = { f64 = 0, f32 = case.op:match '^dropout' and 2e-7 or 0, bf16 = 0 }
  list[#list + 1] = case
end

for _, n in ipairs { 0, 1, 37, 1037, 70003 } do
  for _, op in ipairs { 'randn', 'rand' } do
    add { op = op, opts = { size = { n } } }
    add { op = op .. '_like', { n } }
  end
  add { op = 'bernoulli', { n } }
  add { op = 'bernoulli', { n }, opts = { p = 0.3 } }
  add { op = 'randint', opts = { low = -3, high = 40, size = { n } } }
  add { op = 'normal_', { n }, opts = { mean = 3, std = 0.5 } }
  add { op = 'uniform_', { n }, opts = { from = -1, to = 2 } }
  add { op = 'dropout', { n }, opts = { p = 0.25 }, no_grad = n > 40 and 'size' or nil }
  add { op = 'dropout_replay', { n }, opts = { p = 0.25, key_low = 7, key_high = 2 ^ 32 - 1,
                                               offset_low = 3, offset_high = 1 },
        no_grad = n > 40 and 'size' or nil, golden = false }
end
add { op = 'randn', opts = { size = {} } }
add { op = 'randperm', opts = { n = 0 } }
add { op = 'randperm', opts = { n = 100 } }
add { op = 'dropout', { 4, 5 } }
add { op = 'dropout', { 4, 5 }, opts = { p = 0 } }
add { op = 'dropout', { 4, 5 }, opts = { p = 1 } }
add { op = 'dropout', { 4, 5 }, opts = { training = false } }
add { op = 'bernoulli_', { 2, 37 }, 0.5 }
add { op = 'bernoulli_', { 2, 37 }, { 37, low = 0, high = 1 } }
return list
