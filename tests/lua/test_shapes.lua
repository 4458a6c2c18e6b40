-- Views and copies, parts written in place, the functions made of operators, messages, NaN.
local lu = require 'luaunit'
local vestige = require 'vestige'

local T = {}

local function t(data, dtype) return vestige.tensor(data, { dtype = dtype or 'f64' }) end
local function range(n, dtype)
  local data = {}
  for i = 1, n do data[i] = i - 1 end
  return t(data, dtype)
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return err
end

function T.test_equal_and_allclose()
  local x = range(6):reshape(3, 2)
  lu.assertTrue(vestige.equal(x, range(6):reshape(3, 2)))
  lu.assertFalse(vestige.equal(x, range(6)))
  lu.assertFalse(x:equal(x + 1e-12))
  lu.assertTrue(x:allclose(x * (1 + 1e-6)))
  lu.assertFalse(x:allclose(x + 1e-3))
  lu.assertTrue(x:allclose(x + 1e-3, { atol = 1e-2 }))
  local odd = t{ 0 / 0, math.huge }
  lu.assertFalse(odd:equal(odd))
  lu.assertFalse(odd:allclose(odd))
  lu.assertTrue(t{ math.huge, 1 }:allclose(t{ math.huge, 1 }))
  lu.assertFalse(t{ math.huge, 1 }:allclose(t{ -math.huge, 1 }))
  lu.assertTrue(vestige.zeros{ 0 }:equal(vestige.zeros{ 0 }))
  lu.assertStrContains(message_of(vestige.allclose, x, x, { tol = 1 }), "unknown option 'tol'")
end

function T.test_rows_are_views()
  local x = range(6):reshape(3, 2)
  x[2] = 7
  lu.assertEquals(x:totable(), { { 0, 1 }, { 7, 7 }, { 4, 5 } })
  x[-1] = t{ 8, 9 }
  lu.assertEquals(x:totable()[3], { 8, 9 })
  x:narrow(1, 1, 2):fill_(3)
  lu.assertEquals(x:totable(), { { 3, 3 }, { 3, 3 }, { 8, 9 } })
  x[1][2] = 5
  lu.assertEquals(x:totable()[1], { 3, 5 })
  x:flatten()[6] = 1
  lu.assertEquals(x:totable()[3], { 8, 1 })
end

function T.test_copies_refuse_to_be_changed()
  local x = range(6):reshape(3, 2)
  for _, copy in ipairs{ x:narrow(2, 1, 1), x:select(2, 1), x:permute(2, 1), x:transpose(1, 2),
                         x:permute(2, 1)[1], x:permute(2, 1):reshape(6), x:t():flatten() } do
    lu.assertStrContains(message_of(function() copy:fill_(1) end), 'slice_scatter')
  end
  lu.assertStrContains(message_of(function() x:t()[1] = 1 end), 'slice_scatter')
  x:t():clone():fill_(1)
  x:flip(1):fill_(1) -- a copy in PyTorch too
  lu.assertEquals(x:sum():item(), 15)
end

function T.test_a_part_of_what_requires_grad_is_not_changed()
  local x = range(6):reshape(3, 2):requires_grad_()
  lu.assertStrContains(message_of(function() x[1] = 1 end), 'requires grad')
  vestige.no_grad(function() x[1] = 1 end)
  lu.assertEquals(x:detach():sum():item(), 16)
end

function T.test_positions_count_from_1()
  local x = range(6):reshape(3, 2)
  lu.assertStrContains(message_of(function() return x[0] end), 'count from 1')
  lu.assertStrContains(message_of(function() return x[4] end), 'expected -3 to -1 or 1 to 3, got 4')
  lu.assertStrContains(message_of(x.narrow, x, 1, 2, 3), 'length 3 from 2')
  lu.assertEquals(x:narrow(1, 4, 0):shape(), { 0, 2 })
  lu.assertStrContains(message_of(x.narrow, x, 1, 5, 0), 'start is out of range')
end

function T.test_numbers_stand_for_lists()
  local x = range(24):reshape(2, 3, 4)
  lu.assertEquals(x:permute(3, 1, 2):shape(), { 4, 2, 3 })
  lu.assertEquals(x:permute({ 3, 1, 2 }):shape(), { 4, 2, 3 })
  lu.assertEquals(x:permute{ dims = { 3, 1, 2 } }:shape(), { 4, 2, 3 })
  lu.assertEquals(range(3):flip(1):totable(), { 2, 1, 0 })
  lu.assertStrContains(message_of(x.permute, x, 1, 2), 'expected the 3 dimensions')
  lu.assertStrContains(message_of(x.permute, x, 1, 2, 2), 'stands twice')
end

function T.test_dim_stands_before_the_index()
  local x = t{ { 1, 2 }, { 3, 4 } }
  local index = t({ { 1, 0 } }, 'i64')
  lu.assertEquals(x:gather(1, index):totable(), { { 3, 2 } })
  lu.assertEquals(vestige.gather(x, index, { dim = 1 }):totable(), { { 3, 2 } })
  lu.assertEquals(x:index_add(2, t({ 1 }, 'i64'), t{ { 1 }, { 1 } }, 10):totable(),
                  { { 1, 12 }, { 3, 14 } })
  lu.assertStrContains(message_of(x.gather, x, index), 'dim is missing')
  lu.assertStrContains(message_of(x.gather, x, 1), 'index: expected a tensor')
end

function T.test_indices_are_checked()
  local x = t{ 1, 2, 3 }
  local message = message_of(x.index_select, x, 1, t({ 0, 3 }, 'i64'))
  lu.assertStrContains(message, 'index_select: index: element 2 is 3, expected 0 to 2')
  message = message_of(x.gather, x, 1, t({ -1 }, 'i64'))
  lu.assertStrContains(message, 'element 1 is -1, expected 0 to 2')
  message = message_of(vestige.one_hot, t({ 1, 5 }, 'i64'), 5)
  lu.assertStrContains(message, 'one_hot: x: element 2 is 5, expected 0 to 4')
  lu.assertStrContains(message_of(x.index_select, x, 1, x), 'expected an int tensor')
end

function T.test_in_place_twins()
  local x = vestige.zeros{ 4 }
  local index = t({ 1, 3, 1 }, 'i64')
  x:index_add_(1, index, vestige.ones{ 3 })
  lu.assertEquals(x:totable(), { 0, 2, 0, 1 })
  x:scatter_(1, index, 5)
  lu.assertEquals(x:totable(), { 0, 5, 0, 5 })
  x:scatter_add_(1, index, t({ 1, 2, 3 }, 'f32'))
  lu.assertEquals(x:totable(), { 0, 9, 0, 7 })
  x:index_copy_(1, index, t({ 1, 2, 3 }, 'f32'))
  lu.assertEquals(x:totable(), { 0, 3, 0, 2 }) -- of equal places the last counts
end

function T.test_cutting()
  local x = range(7)
  local function shapes(list)
    local s = {}
    for i, part in ipairs(list) do s[i] = part:size(1) end
    return s
  end
  lu.assertEquals(shapes(x:split(3)), { 3, 3, 1 })
  lu.assertEquals(shapes(x:split{ 2, 5 }), { 2, 5 })
  lu.assertEquals(shapes(x:chunk(3)), { 3, 3, 1 })
  lu.assertEquals(vestige.cat(x:chunk(4)):totable(), x:totable())
  lu.assertStrContains(message_of(x.split, x, { 2, 4 }), 'add up to 6')
  lu.assertEquals(#x:reshape(7, 1):unbind(2), 1)
  lu.assertEquals(x:reshape(7, 1):unbind(1)[3]:shape(), { 1 })
end

function T.test_tile_roll()
  local x = t{ { 1, 2 }, { 3, 4 } }
  lu.assertEquals(x:tile(2):totable(), { { 1, 2, 1, 2 }, { 3, 4, 3, 4 } })
  lu.assertEquals(x:tile(2, 1):totable(), { { 1, 2 }, { 3, 4 }, { 1, 2 }, { 3, 4 } })
  lu.assertEquals(x:tile({ 1, 1, 2 }):shape(), { 1, 2, 4 })
  lu.assertEquals(range(5):roll(2, 1):totable(), { 3, 4, 0, 1, 2 })
  lu.assertEquals(range(5):roll(-1, 1):totable(), { 1, 2, 3, 4, 0 })
  lu.assertEquals(x:roll(1):totable(), { { 4, 1 }, { 2, 3 } })
  lu.assertEquals(x:roll({ 1, 1 }, { 1, 2 }):totable(), { { 4, 3 }, { 2, 1 } })
end

function T.test_image_layouts()
  local x = range(2 * 3 * 4 * 5):reshape(2, 3, 4, 5)
  lu.assertEquals(x:to_nchw():shape(), { 2, 5, 3, 4 })
  lu.assertEquals(x:to_nchw():to_nhwc():tolist(), x:tolist())
  lu.assertEquals(x:expand_as(x):shape(), x:shape())
  lu.assertEquals(range(6):view_as(vestige.zeros{ 2, 3 }):shape(), { 2, 3 })
end

function T.test_sort_puts_nan_last_and_keeps_equal_ones_in_order()
  local nan = 0 / 0
  for _, dtype in ipairs{ 'f32', 'f64', 'bf16' } do
    local x = t({ 2, nan, -1, 2, nan, 0, -0.0, 1 / 0, -1 / 0 }, dtype)
    local values, places = x:sort()
    lu.assertEquals(places:totable(), { 8, 2, 5, 6, 0, 3, 7, 1, 4 })
    lu.assertEquals(values:totable()[1], -1 / 0)
    _, places = x:sort(1, true)
    lu.assertEquals(places:totable(), { 1, 4, 7, 0, 3, 5, 6, 2, 8 })
    _, places = x:topk(3)
    lu.assertEquals(places:totable(), { 1, 4, 7 })
    _, places = x:topk(4, 1, false)
    lu.assertEquals(places:totable(), { 8, 2, 5, 6 })
    local value, place = x:kthvalue(5)
    lu.assertEquals({ value:item(), place:item() }, { 2, 0 })
    lu.assertEquals(x:argmax():item(), 1)
    lu.assertEquals(x:argmin():item(), 1)
    lu.assertEquals(x:argsort():totable(), { 8, 2, 5, 6, 0, 3, 7, 1, 4 })
  end
end

function T.test_large_integers_are_sorted_exactly()
  local x = vestige.from_data(require('ffi').new('int64_t[3]', 9007199254740993LL,
                                                 9007199254740992LL, -9007199254740993LL),
                              { 3 }, 'i64')
  local _, places = x:sort()
  lu.assertEquals(places:totable(), { 2, 1, 0 })
end

function T.test_long_rows_are_sorted()
  for _, n in ipairs{ 33, 1000, 5000 } do
    local x = vestige.randn({ n }, { generator = vestige.generator(1, 'sort' .. n) })
    local values, places = x:sort()
    local list, sorted = x:tolist(), x:tolist()
    table.sort(sorted)
    lu.assertEquals(values:tolist(), sorted)
    for i, p in ipairs(places:tolist()) do lu.assertEquals(list[p + 1], sorted[i]) end
    local top = x:topk(10)
    for i, v in ipairs(top:tolist()) do lu.assertEquals(v, sorted[n + 1 - i]) end
  end
end

function T.test_searchsorted()
  local s = t{ 1, 3, 3, 5 }
  lu.assertEquals(s:searchsorted(t{ { 0, 3 }, { 4, 9 } }):totable(), { { 0, 1 }, { 3, 4 } })
  lu.assertEquals(s:searchsorted(t{ 0, 3, 5 }, true):totable(), { 0, 3, 4 })
  local rows = t{ { 1, 2, 3 }, { 4, 5, 6 } }
  lu.assertEquals(rows:searchsorted(t{ { 3 }, { 3 } }):totable(), { { 2 }, { 0 } })
  lu.assertEquals(s:searchsorted(t{ 0 / 0 }):totable(), { 4 })
end

function T.test_unique()
  local x = t({ { 3, 1, 3 }, { 2, 1, 3 } }, 'i64')
  local values, inverse, counts = x:unique{ return_inverse = true, return_counts = true }
  lu.assertEquals(values:totable(), { 1, 2, 3 })
  lu.assertEquals(inverse:totable(), { { 2, 0, 2 }, { 1, 0, 2 } })
  lu.assertEquals(counts:totable(), { 2, 1, 3 })
  values, counts = vestige.zeros({ 0 }):unique{ return_counts = true }
  lu.assertEquals({ values:numel(), counts:numel() }, { 0, 0 })
  lu.assertEquals(t{ 5 }:unique():totable(), { 5 })
  lu.assertStrContains(message_of(x.unique, x, { return_count = true }), "'return_counts'")
end

-- PyTorch's, of size (2,1,2,3).
function T.test_affine_grid()
  local theta = vestige.tensor({ { { 0.9, 0.1, 0.2 }, { -0.2, 1.1, -0.3 } },
                                 { { 1, 0, 0 }, { 0, 1, 0 } } }, { dtype = 'f64' })
  local apart = vestige.affine_grid(theta, { 2, 2, 3, 1 })
  lu.assertEquals(apart:shape(), { 2, 2, 3, 2 })
  lu.assertAlmostEquals(apart:select(1, 1):flatten():totable(), {
    -0.45, -0.4 - 0.95 / 3, 0.15, -0.85, 0.75, -0.7 - 0.85 / 3, -0.35, 0.4 - 0.05 / 3, 0.25, 0.25,
    0.85, 0.1 + 0.05 / 3 }, 1e-12)
  local whole = vestige.affine_grid(theta, { 2, 2, 3, 1 }, { align_corners = true })
  lu.assertAlmostEquals(whole:select(1, 1):flatten():totable(),
                        { -0.8, -1.2, 0.1, -1.4, 1, -1.6, -0.6, 1, 0.3, 0.8, 1.2, 0.6 }, 1e-12)
  lu.assertErrorMsgContains('affine_grid: theta: expected (n,2,3), got (2,3)', vestige.affine_grid,
                            vestige.zeros{ 2, 3 }, { 1, 2, 3, 4 })
  lu.assertErrorMsgContains('expected {2, h, w, c}', vestige.affine_grid, theta, { 1, 2, 3, 4 })
end

-- A shift by whole pixels moves them; what comes in is zero.
function T.test_grid_sample_shifts()
  local x = vestige.arange(1, 13):to 'f64':reshape(1, 3, 4, 1)
  local theta = vestige.tensor({ { { 1, 0, 2 / 4 }, { 0, 1, -2 / 3 } } }, { dtype = 'f64' })
  local y = vestige.grid_sample(x, vestige.affine_grid(theta, x:shape()))
  lu.assertAlmostEquals(y:reshape(3, 4):totable(),
                        { { 0, 0, 0, 0 }, { 2, 3, 4, 0 }, { 6, 7, 8, 0 } }, 1e-12)
end

function T.test_quantile()
  local x = t{ { 4, 1, 3, 2 }, { 40, 10, 30, 20 } }
  lu.assertEquals(x:quantile(0.5, 2):totable(), { 2.5, 25 })
  lu.assertEquals(x:quantile(0.5, { dim = 2, keepdim = true }):shape(), { 2, 1 })
  lu.assertEquals(x:quantile({ 0, 1 }, 1):totable(), { { 4, 1, 3, 2 }, { 40, 10, 30, 20 } })
  lu.assertEquals(x:quantile(0.5):item(), 7)
  lu.assertEquals(x:quantile(0.5, { keepdim = true }):shape(), { 1, 1 })
  local row = t{ 1, 2, 3, 4 }
  local expected = { linear = 2.2, lower = 2, higher = 3, midpoint = 2.5, nearest = 2 }
  for how, value in pairs(expected) do
    lu.assertAlmostEquals(row:quantile(0.4, { interpolation = how }):item(), value, 1e-15)
  end
  lu.assertNaN(t{ 1, 0 / 0 }:quantile(0):item())
  lu.assertStrContains(message_of(row.quantile, row, 1.5), 'from 0 to 1')
  lu.assertStrContains(message_of(row.quantile, row, 0.5, { keepdims = true }), "'keepdim'")
  local y = row:clone():requires_grad_()
  vestige.gradcheck(function(v) return v:quantile({ 0.3, 0.9 }) end, { y })
  vestige.gradgradcheck(function(v) return (v * v):quantile({ 0.3, 0.9 }) end, { y })
end

function T.test_median()
  local x = t{ { 4, 1, 3, 2 }, { 0 / 0, 10, 30, 20 } }
  local values, places = x:median(2)
  lu.assertEquals(values:totable()[1], 2)
  lu.assertNaN(values:totable()[2])
  lu.assertEquals(places:totable(), { 3, 0 })
  lu.assertEquals(x[1]:median():item(), 2)
  lu.assertEquals(t({ 5, 1, 9 }, 'i64'):median():item(), 5)
end

function T.test_results_whose_size_depends_on_data()
  local x = t{ { 0, 1 }, { 2, 0 } }
  lu.assertEquals(x:nonzero():totable(), { { 0, 1 }, { 1, 0 } })
  lu.assertEquals(t({ 0, 0 }):nonzero():shape(), { 0, 1 })
  lu.assertEquals(t({ 1, 1, 4 }, 'i64'):bincount():totable(), { 0, 2, 0, 0, 1 })
  lu.assertStrContains(message_of(vestige.bincount, t({ 1, -1 }, 'i64')),
                       'bincount: x: element 2 is -1')
  local mask = t({ 1, 0, 1 }, 'bool')
  local y = t{ 1, 2, 3 }:requires_grad_()
  vestige.gradcheck(function(v) return v:masked_select(mask) end, { y })
  vestige.gradgradcheck(function(v) return (v * v):masked_select(mask) end, { y })
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'shapes', T } })
