-- layer_norm. Its fused gradient takes the statistics of x as they are given.
local list = {}
local function add(case) list[#list + 1] = case end

add { op = 'layer_norm', { 4, 3 }, { 3 }, { 3 }, opts = { normalized_shape = { 3 } } }
add { op = 'layer_norm', { 2, 3, 4 }, { 4 }, { 4 }, opts = { normalized_shape = { 4 }, eps = 0.1 } }
add { op = 'layer_norm', { 2, 3, 2 }, { 3, 2 }, { 3, 2 }, opts = { normalized_shape = { 3, 2 } } }
add { op = 'layer_norm', { 5, 4 }, { 4 }, false, opts = { normalized_shape = { 4 } } }
add { op = 'layer_norm', { 5, 4 }, false, { 4 }, opts = { normalized_shape = { 4 } },
      golden = false, why = 'PyTorch fails with a bias alone' }
add { op = 'layer_norm', { 5, 4 }, opts = { normalized_shape = { 4 } } }
add { op = 'layer_norm', { 6 }, { 6 }, { 6 }, opts = { normalized_shape = { 6 } } }
add { op = 'layer_norm', { 0, 3 }, { 3 }, { 3 }, opts = { normalized_shape = { 3 } } }
add { op = 'layer_norm', { 3, 0 }, { 0 }, { 0 }, opts = { normalized_shape = { 0 } } }
-- rows of one element, odd ones, longer than one run of the sums; many rows, more than one piece
for _, shape in ipairs { { 37, 1 }, { 19, 37 }, { 3, 4, 130 }, { 2, 5003 }, { 1031, 24 },
                         { 70, 768 } } do
  local n = shape[#shape]
  local lead = { unpack(shape, 1, #shape - 1) }
  add { op = 'layer_norm', shape, { n }, { n }, opts = { normalized_shape = { n } },
        no_grad = 'size' }
  for _, part in ipairs { { true, true }, { true, false }, { false, true } } do
    add { op = 'layer_norm_backward', shape, shape, { n }, lead, lead, golden = false,
          opts = { input = part[1], affine = part[2] }, no_grad = 'checked through layer_norm' }
  end
  add { op = 'layer_norm_backward', shape, shape, false, lead, lead, golden = false,
        no_grad = 'checked through layer_norm' }
end
return list
