-- Orders, choices, running sums.
local list = {}
local function add(case) list[#list + 1] = case end

for _, case in ipairs {
  { op = 'sort', { 7, distinct = true } },
  { op = 'sort', { 3, 4, distinct = true }, opts = { dim = 1, descending = true } },
  { op = 'sort', { 2, 5, 3, distinct = true }, opts = { dim = 2, stable = true } },
  { op = 'sort', { 40, int = true, low = -3, high = 3 }, opts = { stable = true },
    no_grad = 'integers' },
  { op = 'sort', { 40, int = true, low = -3, high = 3 },
    opts = { stable = true, descending = true }, no_grad = 'integers' },
  { op = 'sort', { 300, int = true, low = 0, high = 255, dtype = 'u8' }, opts = { stable = true },
    no_grad = 'integers' },
  { op = 'sort', { 3, 700, int = true, low = -300, high = 300 },
    opts = { stable = true, descending = true }, no_grad = 'integers' },
  { op = 'sort', { 33, bool = true }, opts = { stable = true }, no_grad = 'bool' },
  { op = 'sort', {} },
  { op = 'sort', { 0, 3 }, opts = { dim = 1 } },
  { op = 'sort', { 70037 }, no_grad = 'size' },
  { op = 'sort', { 70037 }, opts = { descending = true }, no_grad = 'size' },
  { op = 'sort', { 301, 67, 5 }, opts = { dim = 2 }, no_grad = 'size' },
  { op = 'sort', { 67, 1301, low = -1e-3, high = 1e-3 }, opts = { dim = 2 }, no_grad = 'size' },
  { op = 'topk', { 9, distinct = true }, opts = { k = 3 } },
  { op = 'topk', { 4, 3, distinct = true }, opts = { k = 2, dim = 1, largest = false } },
  { op = 'topk', { 4, 5, distinct = true }, opts = { k = 5, dim = -1 } },
  { op = 'topk', { 4, 5, distinct = true }, opts = { k = 0 } },
  { op = 'topk', {}, opts = { k = 1 } },
  { op = 'topk', { 70037 }, opts = { k = 100 }, no_grad = 'size' },
  { op = 'topk', { 70037 }, opts = { k = 60000, largest = false }, no_grad = 'size' },
  { op = 'topk', { 130, 301, 3 }, opts = { k = 7, dim = 2 }, no_grad = 'size' },
  { op = 'topk', { 3000, int = true, low = 0, high = 9 }, opts = { k = 1000 },
    no_grad = 'integers', golden = false, why = 'PyTorch leaves the order of equal ones open' },
  { op = 'kthvalue', { 9, distinct = true }, opts = { k = 4 } },
  { op = 'kthvalue', { 4, 3, distinct = true }, opts = { k = 2, dim = 1, keepdim = true } },
  { op = 'kthvalue', { 7003 }, opts = { k = 3000 }, no_grad = 'size' },
  { op = 'kthvalue', { 33, 301 }, opts = { k = 7, dim = 2 }, no_grad = 'size' },
} do add(case) end

for _, op in ipairs { 'argmax', 'argmin' } do
  for _, case in ipairs {
    { { 3, 4, distinct = true } },
    { { 3, 4, distinct = true }, opts = { dim = 1 } },
    { { 3, 4, distinct = true }, opts = { dim = -1, keepdim = true } },
    { { 3, 4, distinct = true }, opts = { keepdim = true } },
    { { 2, 60, 3, int = true, low = 0, high = 5 }, opts = { dim = 2 } },
    { {} },
    { { 0, 3 }, opts = { dim = 2 } },
    { { 7003, 10 }, opts = { dim = 2 } },
    { { 257, 301 }, opts = { dim = 1 } },
    { { 70037 } },
  } do
    case.op = op
    add(case)
  end
end

for _, case in ipairs {
  { op = 'searchsorted', { 6, int = true, low = 1, high = 1 },
    { 4, int = true, low = 0, high = 2 } },
  { op = 'searchsorted', { 6, int = true, low = 1, high = 1 }, { 4, int = true, low = 0, high = 2 },
    opts = { right = true } },
  { op = 'searchsorted', { 1 }, { 4, 3 } },
  { op = 'searchsorted', { 3, 1 }, { 3, 2 } },
  { op = 'searchsorted', { 0 }, { 5 } },
  { op = 'searchsorted', { 1 }, {} },
  { op = 'cumsum', { 7 }, opts = { dim = 1 } },
  { op = 'cumsum', { 3, 4 }, opts = { dim = 1 } },
  { op = 'cumsum', { 2, 5, 3 }, opts = { dim = -2, reverse = true } },
  { op = 'cumsum', {}, opts = { dim = 1 } },
  { op = 'cumsum', { 0, 3 }, opts = { dim = 1 } },
  { op = 'cumsum', { 9, int = true, low = -5, high = 5 }, opts = { dim = 1 },
    no_grad = 'integers' },
  { op = 'cumsum', { 70037 }, opts = { dim = 1 }, no_grad = 'size' },
  { op = 'cumsum', { 301, 67, 33 }, opts = { dim = 2 }, no_grad = 'size' },
  { op = 'cumsum', { 301, 1037 }, opts = { dim = 2, reverse = true }, no_grad = 'size' },
} do add(case) end
return list
