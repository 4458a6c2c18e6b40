-- Functions of one tensor. Gradients are tried away from 0, where abs and clamp have kinks.
local list = {}
local function add(case) list[#list + 1] = case end

local functions = { 'neg', 'abs', 'square', 'reciprocal', 'sqrt', 'rsqrt', 'exp', 'expm1', 'log',
                    'log1p', 'log2', 'log10', 'sin', 'cos', 'sign', 'floor', 'ceil', 'round',
                    'trunc' }
-- Their gradient is 0 and has no history.
local steps = { sign = 'steps', floor = 'steps', ceil = 'steps', round = 'steps', trunc = 'steps' }
local no_twin = { log2 = true, log10 = true }
for _, op in ipairs(functions) do
  add { op = op, { 2, 4, distinct = true }, no_gradgrad = steps[op] }
  add { op = op, {}, no_gradgrad = steps[op] }
  add { op = op, { 0 }, no_gradgrad = steps[op] }
  add { op = op, { 1037 }, no_grad = 'size' }
  add { op = op, { 70003 }, no_grad = 'size', golden = false }
  add { op = op, { 5, int = true, low = 1, high = 9 }, no_grad = 'integers',
        tolerance = { golden = 1e-7, f64 = 1e-6 }, why = 'the result is f32' }
  if not no_twin[op] then add { op = op .. '_', { 37 }, golden = false } end
end
-- Far out: the largest exponents, and where digits are lost.
add { op = 'exp', { 1037, low = -110, high = 88 }, no_grad = 'scale', dtypes = { 'f64', 'f32' } }
add { op = 'expm1', { 1037, low = -1e-3, high = 1e-3 }, no_grad = 'scale' }
add { op = 'log', { 1037, low = 0, high = 1e-30 }, no_grad = 'scale' }
add { op = 'log1p', { 1037, low = -1e-3, high = 1e-3 }, no_grad = 'scale' }
add { op = 'round', { 64, int = true, low = -9, high = 9, dtype = 'f64' }, no_grad = 'steps' }

for _, op in ipairs { 'isnan', 'isinf', 'isfinite' } do
  add { op = op, { 2, 3 } }
  add { op = op, { 3, int = true, low = 0, high = 3 } }
end
for _, opts in ipairs { { min = -0.5, max = 0.7 }, { min = 0.3 }, { max = -0.3 },
                        { min = 1, max = -1 } } do
  add { op = 'clamp', { 2, 4, distinct = true }, opts = opts }
  add { op = 'clamp', { 1037 }, opts = opts, no_grad = 'size' }
  add { op = 'clamp', { 9, int = true, low = -3, high = 3 }, opts = opts, no_grad = 'integers' }
  add { op = 'clamp_', { 37 }, opts = opts, golden = false }
  add { op = 'clamp_backward', { 2, 4 }, { 2, 4, distinct = true }, opts = opts, golden = false,
        no_grad = 'a step in x; it is checked as the gradient of clamp' }
end
add { op = 'clamp', { 70003 }, opts = { min = -1, max = 1 }, no_grad = 'size', golden = false }
return list
