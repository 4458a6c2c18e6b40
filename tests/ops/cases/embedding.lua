-- embedding: rows of a table; equal places add up in the gradient.
local function ids(n, ...)
  local spec = { ... }
  spec.int, spec.low, spec.high = true, 0, n - 1
  return spec
end
local i32 = ids(3, 4)
i32.dtype = 'i32'

return {
  { op = 'embedding', ids(5, 2, 3), { 5, 4 } },
  { op = 'embedding', ids(2, 7), { 2, 3 } },
  { op = 'embedding', ids(3), { 3, 2 } },
  { op = 'embedding', i32, { 3, 2 } },
  { op = 'embedding', ids(5, 0, 3), { 5, 4 } },
  { op = 'embedding', ids(5, 3), { 5, 0 }, no_grad = 'nothing to differentiate' },
  { op = 'embedding', ids(50, 8, 64), { 50, 130 }, no_grad = 'size' },
}
