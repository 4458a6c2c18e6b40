-- The functions of probability, in the middle and in the tails.
local list = {}
local function add(case) list[#list + 1] = case end

for _, op in ipairs { 'erf', 'erfc', 'erfinv', 'ndtr', 'ndtri', 'lgamma' } do
  add { op = op, { 2, 3 } }
  add { op = op, {} }
  add { op = op, { 0 } }
  add { op = op, { 1037 }, no_grad = 'size' }
  add { op = op, { 70003 }, no_grad = 'size', golden = false }
end
add { op = 'erf', { 1037, low = -9, high = 9 }, no_grad = 'scale' }
add { op = 'erfc', { 1037, low = -9, high = 9 }, no_grad = 'scale' }
add { op = 'ndtr', { 1037, low = -12, high = 12 }, no_grad = 'scale' }
add { op = 'erfinv', { 1037, low = -1, high = 1 }, no_grad = 'scale' }
add { op = 'ndtri', { 1037, low = 0, high = 1 }, no_grad = 'scale' }
add { op = 'ndtri', { 1037, low = 0, high = 1e-20 }, no_grad = 'scale', dtypes = { 'f64', 'f32' } }
add { op = 'lgamma', { 1037, low = -5, high = 40 }, no_grad = 'scale',
      dtypes = { 'f64', 'f32' } }
for _, op in ipairs { 'erf_', 'erfc_', 'erfinv_' } do
  add { op = op, { 37 }, golden = false }
end
return list
