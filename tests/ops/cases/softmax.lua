-- Softmax and its logarithm along every dimension.
local list = {}
for _, op in ipairs { 'softmax', 'log_softmax' } do
  for _, c in ipairs { { { 3, 4 }, -1 }, { { 3, 4 }, 1 }, { { 2, 3, 2 }, 2 }, { {}, 1 },
                       { { 5 }, 1 },
                       { { 0, 3 }, 2 }, { { 3, 0 }, 2 }, { { 2, 1 }, 2 } } do
    list[#list + 1] = { op = op, c[1], opts = { dim = c[2] } }
    list[#list + 1] = { op = op .. '_backward', c[1], c[1], opts = { dim = c[2] } }
  end
  -- rows far apart, rows of remainders, many rows
  list[#list + 1] = { op = op, { 6, 5, low = -200, high = 200 }, opts = { dim = -1 } }
  for _, shape in ipairs { { 3, 1037 }, { 700, 101 }, { 4000, 10 }, { 33, 16 } } do
    list[#list + 1] = { op = op, shape, opts = { dim = -1 }, no_grad = 'size' }
    list[#list + 1] = { op = op .. '_backward', shape, shape, opts = { dim = -1 },
                        no_grad = 'size' }
  end
end
return list
