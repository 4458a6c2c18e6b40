-- Reductions: all, some, kept, from the end, and over nothing.
local list = {}
for _, op in ipairs { 'sum', 'mean', 'var', 'std', 'amax', 'amin', 'norm', 'logsumexp' } do
  local distinct = op == 'amax' or op == 'amin'
  for _, case in ipairs {
    { { 2, 3, distinct = distinct } },
    { { 2, 3, 4, distinct = distinct }, opts = { dim = { 1, 3 } } },
    { { 2, 3, 4, distinct = distinct }, opts = { dim = -2, keepdim = true } },
    { { 3, 5, distinct = distinct }, opts = { dim = 1 } },
    { { 70, 33, distinct = distinct }, opts = { dim = 1 }, no_grad = 'size' },
    { { 33, 70, distinct = distinct }, opts = { dim = 2 }, no_grad = 'size' },
    { { 300, 5, 7, distinct = distinct }, opts = { dim = { 1, 2 } }, no_grad = 'size' },
    { { 70037, distinct = distinct }, no_grad = 'size' },
  } do
    case.op = op
    list[#list + 1] = case
  end
  if op ~= 'var' and op ~= 'std' then list[#list + 1] = { op = op, {} } end
  if op ~= 'var' and op ~= 'std' then list[#list + 1] = { op = op, {}, opts = { dim = 1 } } end
end
for _, case in ipairs {
  { op = 'sum', { 0, 3 }, opts = { dim = 1 } },
  { op = 'sum', { 3, 4, int = true, low = -5, high = 5 }, opts = { dim = 2 },
    no_grad = 'integers' },
  { op = 'mean', { 3, 0 }, opts = { dim = 1 } },
  { op = 'var', { 6 }, opts = { correction = 0 } },
  { op = 'norm', { 2, 3 }, opts = { ord = 1 } },
  { op = 'norm', { 2, 3, distinct = true }, opts = { ord = math.huge, dim = 2 } },
  { op = 'norm', { 2, 3, low = 0, high = 1e-300 }, dtypes = { 'f64' }, no_grad = 'scale' },
  { op = 'amax', { 4, int = true, low = 0, high = 9 }, no_grad = 'integers' },
  { op = 'amin', { 2, 4, bool = true }, opts = { dim = 1 }, no_grad = 'booleans' },
  { op = 'any', { 2, 3, bool = true }, opts = { dim = 2 } },
  { op = 'any', { 0 } },
  { op = 'all', { 2, 3, bool = true }, opts = { dim = 1, keepdim = true } },
  { op = 'all', { 0 } },
} do list[#list + 1] = case end
for _, op in ipairs { 'max_dim', 'min_dim' } do
  for _, case in ipairs {
    { { 3, 4, distinct = true }, opts = { dim = 1 } },
    { { 3, 4, distinct = true }, opts = { dim = -1, keepdim = true } },
    { { 2, 5, 3, distinct = true }, opts = { dim = 2 } },
    { { 40, int = true, low = 0, high = 3 }, opts = { dim = 1 }, no_grad = 'integers' },
  } do
    case.op = op
    list[#list + 1] = case
  end
end
return list
