-- Normalisation. The parts of batch_norm stand for x's statistics too in training, which finite
-- differences of a part alone cannot see: there they are checked through batch_norm.
local through = 'mean and invstd are functions of x: checked through batch_norm'
local list = {}
local function add(case)
  if not case.op:match '^batch_norm$' and case.op ~= 'batch_norm_relu' then
    case.golden, case.why = false, 'PyTorch has no such operator'
  end
  list[#list + 1] = case
end
local function bits(n)
  return { math.ceil(n / 8), int = true, low = 0, high = 255, dtype = 'u8' }
end
local function stat(c) return { c, low = 0.5, high = 2, const = true } end

for _, training in ipairs { true, false } do
  local opts = { training = training }
  add { op = 'batch_norm', { 5, 3 }, { 3 }, { 3 }, stat(3), stat(3), opts = opts }
  add { op = 'batch_norm', { 2, 2, 3, 2 }, { 2 }, { 2 }, stat(2), stat(2),
        opts = { training = training, momentum = 0.3, eps = 0.1 } }
  add { op = 'batch_norm', { 4, 3 }, false, { 3 }, stat(3), stat(3), opts = opts }
  add { op = 'batch_norm', { 4, 3 }, { 3 }, false, stat(3), stat(3), opts = opts }
  add { op = 'batch_norm', { 4, 0 }, { 0 }, { 0 }, stat(0), stat(0), opts = opts,
        golden = false, why = 'PyTorch fails without channels' }
  -- one channel, odd ones, many; sizes over one piece and over one thread's share
  for _, shape in ipairs { { 1037, 1 }, { 37, 17 }, { 5, 7, 9, 64 }, { 3, 4, 4, 130 },
                           { 40, 16, 16, 16 }, { 8, 33, 33, 24 } } do
    local c = shape[#shape]
    add { op = 'batch_norm', shape, { c }, { c }, stat(c), stat(c), opts = opts,
          no_grad = 'size' }
    local n = 1
    for _, d in ipairs(shape) do n = n * d end
    for _, mask in ipairs { false, bits(n) } do
      add { op = 'batch_norm_input', shape, shape, { c }, stat(c), stat(c), { c }, { c }, mask,
            opts = opts, no_grad = 'size' }
      add { op = 'batch_norm_sums', shape, shape, stat(c), stat(c), mask, opts = opts,
            no_grad = 'size' }
    end
    add { op = 'batch_norm_apply', shape, stat(c), stat(c), { c }, { c },
          opts = opts, no_grad = 'size' }
    add { op = 'batch_norm_statistics', shape, no_grad = 'size' }
  end
  local why = training and through or nil
  add { op = 'batch_norm_apply', { 4, 3 }, stat(3), stat(3), { 3 }, { 3 },
        opts = opts, no_grad = why }
  for _, mask in ipairs { false, bits(12) } do
    add { op = 'batch_norm_sums', { 4, 3 }, { 4, 3 }, stat(3), stat(3), mask,
          opts = opts, no_grad = why }
    add { op = 'batch_norm_input', { 4, 3 }, { 4, 3 }, { 3 }, stat(3), stat(3),
          { 3, const = true }, { 3, const = true }, mask, opts = opts, no_grad = why }
  end
end
add { op = 'batch_norm', { 5, 3 }, opts = { training = true } }
add { op = 'batch_norm', { 0, 3 }, { 3 }, { 3 }, stat(3), stat(3) }
-- what ends the pass: a residual, a relu, both; bits that fill no byte, rows that fill no vector
for _, training in ipairs { true, false } do
  local why, opts = training and through or nil, { training = training }
  for _, residual in ipairs { false, { 5, 3 } } do
    add { op = 'batch_norm_relu', { 5, 3 }, { 3 }, { 3 }, stat(3), stat(3), residual, opts = opts }
    for _, relu in ipairs { false, true } do
      add { op = 'batch_norm_apply', { 5, 3 }, stat(3), stat(3), { 3 }, { 3 }, residual,
            opts = { training = training, relu = relu }, no_grad = why }
    end
  end
  add { op = 'batch_norm_relu', { 2, 2, 3, 2 }, false, { 2 }, stat(2), stat(2), { 2, 2, 3, 2 },
        opts = opts }
  for _, shape in ipairs { { 1037, 1 }, { 37, 17 }, { 5, 7, 9, 64 }, { 3, 4, 4, 130 },
                           { 8, 33, 33, 24 } } do
    local c = shape[#shape]
    for _, residual in ipairs { false, shape } do
      add { op = 'batch_norm_relu', shape, { c }, { c }, stat(c), stat(c), residual, opts = opts,
            no_grad = 'size' }
    end
  end
end
add { op = 'batch_norm_input', { 4, 3 }, false, { 3 }, stat(3), stat(3) }
add { op = 'batch_norm_input', { 4, 3 }, false, { 3 }, stat(3), stat(3), false, false, bits(12) }
for _, n in ipairs { 0, 1, 8, 37, 40000, 100001 } do
  add { op = 'masked_by_bits', { n, low = -1, high = 1 },
        bits(n), no_grad = n > 100 and 'size' or nil }
end
add { op = 'batch_norm_statistics', { 5, 3 } }
add { op = 'batch_norm_statistics', { 2, 3, 2 }, opts = { eps = 0.3 } }
return list
