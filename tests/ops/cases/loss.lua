-- Losses over classes. Labels run from -1 where ignore_index is -1, so that some rows are left out.
local list = {}
local function add(case)
  if case.op == 'cross_entropy_backward' then
    case.golden, case.why = false, 'PyTorch has no such operator'
  end
  list[#list + 1] = case
end
local function labels(shape, classes, low)
  local spec = { int = true, low = low or 0, high = classes - 1 }
  for i, d in ipairs(shape) do spec[i] = d end
  return spec
end
local weight = { 4, low = 0.5, high = 2, const = true }

for _, reduction in ipairs { 'mean', 'sum', 'none' } do
  for _, o in ipairs { {}, { weight = true }, { ignore = true },
                       { weight = true, ignore = true } } do
    local target = labels({ 5 }, 4, o.ignore and -1)
    local w = o.weight and weight
    local ignore = o.ignore and -1 or nil
    add { op = 'nll_loss', { 5, 4 }, target, w,
          opts = { reduction = reduction, ignore_index = ignore } }
    for _, smoothing in ipairs { 0, 0.2 } do
      add { op = 'cross_entropy', { 5, 4 }, target, w,
            opts = { reduction = reduction, ignore_index = ignore, label_smoothing = smoothing } }
      add { op = 'class_slope', reduction == 'none' and { 5 } or {}, target, w,
            opts = { classes = 4, reduction = reduction, ignore_index = ignore,
                     label_smoothing = smoothing } }
    end
  end
  for _, w in ipairs { false, weight } do
    for _, smoothing in ipairs { 0, 0.2 } do
      add { op = 'cross_entropy', { 3, 4 }, { 3, 4, low = 0, high = 1 }, w,
            opts = { reduction = reduction, label_smoothing = smoothing } }
    end
  end
  add { op = 'nll_loss', { 2, 3, 4 }, labels({ 2, 3 }, 4), opts = { reduction = reduction } }
  add { op = 'cross_entropy', { 2, 3, 4 }, labels({ 2, 3 }, 4), opts = { reduction = reduction } }
  add { op = 'cross_entropy', { 4 }, labels({}, 4), opts = { reduction = reduction } }
  add { op = 'cross_entropy', { 6, 5, low = -200, high = 200 }, labels({ 6 }, 5),
        opts = { reduction = reduction } }
  for _, s in ipairs { { 3, 1037 }, { 700, 101 }, { 4000, 10 }, { 33, 16 } } do
    local t = labels({ s[1] }, s[2])
    local opts = { reduction = reduction }
    add { op = 'cross_entropy', s, t, opts = opts, no_grad = 'size' }
    add { op = 'cross_entropy', s, t, { s[2], low = 0.5, high = 2 }, opts = opts, no_grad = 'size' }
    add { op = 'cross_entropy', s, t, no_grad = 'size',
          opts = { reduction = reduction, label_smoothing = 0.1 } }
    add { op = 'cross_entropy_backward', reduction == 'none' and { s[1] } or {}, s, t, false,
          { s[1], low = 1, high = 2 }, { s[1], low = 2, high = 5 }, opts = opts }
  end
end
-- nothing, nothing left, integers of other widths
add { op = 'cross_entropy', { 0, 4 }, labels({ 0 }, 4), opts = { reduction = 'sum' } }
add { op = 'cross_entropy', { 0, 4 }, labels({ 0 }, 4), no_grad = 'a mean over nothing' }
add { op = 'cross_entropy', { 3, 4 }, { 3, int = true, low = 2, high = 2 },
      opts = { ignore_index = 2 }, no_grad = 'a mean over nothing' }
add { op = 'nll_loss', { 3, 4 }, { 3, int = true, low = 2, high = 2 },
      opts = { ignore_index = 2 }, no_grad = 'a mean over nothing' }
add { op = 'cross_entropy', { 3, 4 }, { 3, int = true, low = 0, high = 3, dtype = 'i32' } }
add { op = 'cross_entropy', { 3, 4 }, { 3, int = true, low = 0, high = 3, dtype = 'u8' } }
return list
