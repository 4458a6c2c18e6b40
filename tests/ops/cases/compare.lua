-- Comparisons and logic over every way of broadcasting; choosing by a condition.
local list = {}
local function add(case) list[#list + 1] = case end

local function few(...) return { int = true, low = 0, high = 2, ... } end
for _, op in ipairs { 'eq', 'ne', 'lt', 'le', 'gt', 'ge', 'logical_and', 'logical_or',
                      'logical_xor' } do
  add { op = op, { 2, 3 }, { 2, 3 } }
  add { op = op, { 2, 3 }, 0.5 }
  add { op = op, 0.5, { 3 } }
  add { op = op, { 0, 3 }, { 3 } }
  add { op = op, {}, { 5 } }
  add { op = op, { 3, 1 }, { 2, 1, 4 } }
  add { op = op, few(1037), few(1037) }
  add { op = op, { 1037, int = true, low = 0, high = 2, dtype = 'f32' },
        { 1037, int = true, low = 0, high = 2, dtype = 'f32' } }
  add { op = op, { 1037, int = true, low = 0, high = 2, dtype = 'f64' },
        { 1037, int = true, low = 0, high = 2, dtype = 'f64' } }
  add { op = op, { 70003 }, { 70003 }, golden = false }
  add { op = op, { 300, 70 }, { 70 }, golden = false }
  add { op = op, { 5, bool = true }, { 5, bool = true } }
end
add { op = 'logical_not', { 2, 3 } }
add { op = 'logical_not', few(9) }
add { op = 'logical_not', { 9, bool = true } }

local function mask(...) return { bool = true, ... } end
for _, case in ipairs {
  { mask(2, 3), { 2, 3 }, { 2, 3 } }, { mask(3), { 2, 3 }, { 2, 1 } }, { mask(2, 1), { 3 }, 0.5 },
  { mask(2, 3), 1.5, { 2, 3 } }, { mask(0), { 0 }, { 0 } }, { mask(), {}, {} },
  { mask(2, 3), {}, { 3 } },
} do
  add { op = 'where', case[1], case[2], case[3] }
end
for _, case in ipairs {
  { mask(1037), { 1037 }, { 1037 } }, { mask(1037), { 1037 }, 0.5 }, { mask(1037), 0.5, {} },
  { mask(70003), { 70003 }, { 70003 } }, { mask(70003), { 70003 }, -1 },
  { mask(300, 1), { 300, 250 }, { 250 } }, { mask(250), { 300, 250 }, { 300, 1 } },
} do
  add { op = 'where', case[1], case[2], case[3], no_grad = 'size', golden = false }
end
add { op = 'where', mask(3), few(3), 7, no_grad = 'integers' }
for _, case in ipairs {
  { { 2, 3 }, mask(2, 3), 1.5 }, { { 2, 3 }, mask(3), {} }, { { 3 }, mask(2, 1), -1 },
  { { 0 }, mask(0), 1 },
} do
  add { op = 'masked_fill', case[1], case[2], case[3] }
end
add { op = 'masked_fill', { 70003 }, mask(70003), 2, no_grad = 'size', golden = false }
add { op = 'masked_fill', { 300, 250 }, mask(250), 2, no_grad = 'size', golden = false }
add { op = 'masked_fill_', { 2, 37 }, mask(37), 2.5, golden = false }
add { op = 'masked_fill_', { 2, 37 }, mask(2, 1), {}, golden = false }
return list
