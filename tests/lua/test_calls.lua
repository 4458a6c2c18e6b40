-- Calls of operators: 10,000 random argument lists thrown at every operator end in a result or in
-- an error that names the operator and points at the caller; the forms of a call agree.
local ffi = require 'ffi'
local lu = require 'luaunit'
local counts = require 'tests.lua.counts'
local vestige = require 'vestige'
local base = require 'vestige.ffi'

local T = {}
local ops = vestige._ops

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'test_calls.lua:')
  return message
end

local function row_of(name) return vestige.op_of(ops[name]) end

-- ---- Random calls ----
local state = tonumber(os.getenv 'VESTIGE_SEED') or 1
local function draw(n) -- 1 to n
  state = state * 16807 % (2^31 - 1)
  return math.floor(state / (2^31 - 1) * n) + 1
end
local function one_of(list) return list[draw(#list)] end

local shapes = { {}, { 1 }, { 3 }, { 0 }, { 2, 3 }, { 3, 3 }, { 3, 1 }, { 2, 0, 3 }, { 2, 3, 4 },
                 { 1, 4, 4, 2 }, { 2, 5, 5, 3 }, { 3, 3, 3, 2 }, { 1, 1, 1, 1, 1, 1, 1, 1 } }
local types = { 'f32', 'f32', 'f32', 'f64', 'bf16', 'i64', 'i32', 'u8', 'bool' }
local odd = { 0, 1, 2, 3, -1, -2, 8, 9, 0.5, -0.0, 1e9, 2^53, 2^60, 1e300, -1e300, 1 / 0, -1 / 0,
              0 / 0, true, false, 'f32', 'mean', '', 'x', {}, { 1 }, { 1, 2 }, { 2, 3 }, { -1 },
              { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, { 0.5 }, { 'a' }, { {} }, { 1 / 0 }, { 2^40, 2^40 },
              print, 3LL, ffi.new 'int[2]' }

local function tensor()
  local t = vestige.full(one_of(shapes), draw(4) - 2, { dtype = one_of(types) })
  if draw(4) == 1 and t:dtype():match 'f' then t:requires_grad_() end
  if draw(20) == 1 then t = t:to 'ref' end
  return t
end

-- A value for a parameter: mostly of its kind, sometimes anything.
local good = {}
function good.int() return draw(4) - 1 end
function good.int2() return draw(2) == 1 and draw(3) or { draw(3), draw(3) - 1 } end
function good.ints() return { draw(4), draw(4) } end
function good.size() return one_of(shapes) end
function good.dim() return one_of { 1, 2, -1, 3 } end
function good.position() return draw(3) end
function good.dims() return one_of { 1, { 1 }, { 1, 2 }, -1, { 2, 3 } } end
function good.float() return one_of { 0, 0.5, 1, -1, 1e-3, 2 } end
function good.bool() return draw(2) == 1 end
function good.dtype() return one_of(types) end
function good.enum(p)
  local names = {}
  for name in pairs(p.choices) do names[#names + 1] = name end
  table.sort(names)
  return one_of(names)
end
function good.tensor(p) return p.number and draw(3) == 1 and draw(5) or tensor() end
function good.list()
  local list = {}
  for i = 1, draw(4) - 1 do list[i] = tensor() end
  return list
end

local function value(p)
  if draw(12) == 1 then return one_of(odd) end
  return good[p.kind](p)
end

local function random_call(row)
  local args, n = {}, 0
  local function add(v) n, args[n + 1] = n + 1, v end
  for i, p in ipairs(row.ins) do
    if row.placed[i] and draw(3) > 1 then add(value(row.by_name[row.placed[i]])) end
    if p.optional and draw(2) == 1 then
      if draw(2) == 1 then add(nil) end
    else
      add(value(p))
    end
  end
  local form = draw(3)
  if form == 1 then
    for i = 1, draw(#row.options + 1) - 1 do add(value(row.options[i])) end
  elseif form == 2 then
    local o = {}
    for _, p in ipairs(row.options) do
      if draw(3) > 1 then o[p.name] = value(p) end
    end
    if draw(20) == 1 then o[one_of { 'dimm', 'keepdims', 'x', 1, 3, 'device', 'requires_grad' }] =
      one_of(odd) end
    add(o)
  end
  if draw(20) == 1 then add(one_of(odd)) end
  return args, n
end

local function shown(row, args, n)
  local list = {}
  for i = 1, n do
    local v = args[i]
    list[i] = vestige.is_tensor(v) and v:alive()
              and v:dtype() .. '(' .. table.concat(v:shape(), ',') .. ')'
              or tostring(v)
  end
  return ('%s(%s)'):format(row.name, table.concat(list, ', '))
end

-- Sizes that are allowed but need all the memory of the machine are told as out of memory.
local function capped(f)
  base.C.vestige_memory_cap(vestige.memory().live + 2^26)
  local ok, message = pcall(f)
  base.C.vestige_memory_cap(0)
  lu.assertTrue(ok, message)
end

function T.test_random_calls_end_in_a_result_or_a_clear_error()
  vestige.manual_seed(3)
  local names = {}
  for _, row in ipairs(vestige.ops()) do
    if not row.hidden then names[#names + 1] = row.name end
  end
  local before, worked = counts(), {}
  capped(function()
    for k = 1, 10000 do
      local name = names[k % #names + 1]
      local row = row_of(name)
      vestige.scope(function()
        local args, n = random_call(row)
        local ok, message = pcall(ops[name], unpack(args, 1, n))
        if ok then
          worked[name] = true
        else
          local text = shown(row, args, n) .. ': ' .. tostring(message)
          lu.assertEquals(type(message), 'string', text)
          lu.assertStrContains(message, 'test_calls.lua:', text)
          local place = message:gsub('^.-test_calls.lua:%d+: ', '')
          lu.assertTrue(place:sub(1, #name + 1) == name .. ':'
                        or place:match '^out of memory' ~= nil
                        or place:match '^unknown device' ~= nil, text)
        end
      end)
    end
  end)
  lu.assertEquals(counts(), before)
  lu.assertTrue(vestige.is_grad_enabled())
  local count = 0
  for _ in pairs(worked) do count = count + 1 end
  lu.assertTrue(count > 0.8 * #names, ('only %d of %d ever worked'):format(count, #names))
end

-- ---- Forms of a call ----
local function same(a, b)
  lu.assertEquals(a:shape(), b:shape())
  lu.assertEquals(a:tolist(), b:tolist())
end

function T.test_options_by_place_and_by_name_agree()
  local x = vestige.tensor{ { 3, 1, 2 }, { 5, 6, 4 } }
  same(x:sum(1), x:sum{ dim = 1 })
  same(x:sum({ 1, 2 }, true), x:sum{ dim = { 1, 2 }, keepdim = true })
  same(x:sum(nil, true), x:sum{ keepdim = true })
  same(x:sum(2, { keepdim = true }), x:sum(2, true))
  same(x:sum(), x:sum{})
  same(x:sum(), x:sum(nil))
  same(x:sum(), x:sum(nil, nil, nil))
  same(x:reshape(3, 2), x:reshape{ 3, 2 })
  same(x:reshape(3, 2), x:reshape{ size = { 3, 2 } })
  same(x:reshape(-1), x:reshape{ 6 })
  same(vestige.zeros(2, 3), vestige.zeros{ 2, 3 })
  lu.assertEquals(vestige.zeros({}):shape(), {})
  lu.assertEquals(vestige.zeros(2, 3, { dtype = 'i64' }):dtype(), 'i64')
  lu.assertEquals(vestige.zeros({ 2, 3 }, 'i64'):dtype(), 'i64')
  lu.assertEquals(vestige.zeros(2, 3, 'i64'):dtype(), 'i64')
  lu.assertTrue(vestige.zeros(2, { requires_grad = true }):requires_grad())
  local w, b = vestige.ones{ 4, 3 }, vestige.ones{ 4 }
  same(x:linear(w, nil), x:linear(w))
  same(vestige.linear(x, w, b), x:linear(w, b))
  local img, k = vestige.ones{ 1, 5, 5, 1 }, vestige.ones{ 2, 3, 3, 1 }
  local y = img:conv2d(k, nil, 2, 1)
  same(y, img:conv2d(k, nil, { stride = 2, padding = 1 }))
  same(y, img:conv2d(k, { stride = 2, padding = 1 }))
  same(y, img:conv2d(k, nil, { 2, 2 }, { 1, 1 }))
  same(y, img:conv2d(k, nil, 2, { padding = 1 }))
end

function T.test_options_do_not_stay_from_one_call_to_the_next()
  local x = vestige.tensor{ { 3, 1, 2 }, { 5, 6, 4 } }
  local o = { dim = 1 }
  lu.assertEquals(x:sum(o):shape(), { 3 })
  o.dim = 2
  lu.assertEquals(x:sum(o):shape(), { 2 })
  o.dim, o.keepdim = nil, true
  lu.assertEquals(x:sum(o):shape(), { 1, 1 })
  lu.assertEquals(x:sum():shape(), {})
  pcall(x.sum, x, { dim = 1, keepdim = 3 })
  lu.assertEquals(x:sum(2):shape(), { 2 })
  lu.assertEquals(x:sum{}:shape(), {})
end

function T.test_lists_of_tensors()
  local row = vestige.ones{ 1, 2 }
  lu.assertEquals(vestige.cat({ row, row * 2 }, 2):tolist(), { 1, 1, 2, 2 })
  lu.assertEquals(vestige.cat({ row, row * 2 }, { dim = 1 }):shape(), { 2, 2 })
  local many = {}
  for i = 1, 5000 do many[i] = row end -- more than the arrays that calls share
  lu.assertEquals(vestige.cat(many):shape(), { 5000, 2 })
  local function told(want, ...)
    local ok, text = pcall(vestige.cat, ...)
    lu.assertFalse(ok)
    lu.assertStrContains(text, want)
  end
  told('xs[1]: expected a tensor, got number', { 1, 2 })
  told('xs[2]: expected a tensor, got string', { row, 'x' })
  told('at least one tensor', {})
  told('expected a list of tensors, got number', 5)
  told("did you mean 'dim'", { row }, { dimm = 2 })
end

function T.test_the_same_call_compiled_and_not()
  local x = vestige.tensor{ { 3, 1, 2 }, { 5, 6, 4 } }
  local function all()
    vestige.scope(function()
      same(x:sum(1) + x:reshape(3, 2):sum(2), vestige.tensor{ 12, 14, 16 })
      same(x[2], vestige.tensor{ 5, 6, 4 })
      same(x:sum{ dim = -1, keepdim = true }, vestige.tensor{ { 6 }, { 15 } })
    end)
  end
  for _ = 1, 300 do all() end
  jit.off()
  all()
  jit.on()
end

function T.test_dimensions_count_from_one_and_from_the_end()
  local x = vestige.tensor{ { 3, 1, 2 }, { 5, 6, 4 } }
  same(x:sum(1), x:sum(-2))
  same(x:sum(2), x:sum(-1))
  same(x[1], vestige.tensor{ 3, 1, 2 })
  same(x[-1], vestige.tensor{ 5, 6, 4 })
  lu.assertStrContains(message_of(x.sum, x, 0), 'sum: option dim: counts from 1')
  lu.assertStrContains(message_of(x.sum, x, { dim = 0 }), 'sum: option dim: counts from 1')
  lu.assertStrContains(message_of(x.sum, x, { 1, 0 }), 'sum: option dim: counts from 1')
  lu.assertStrContains(message_of(x.sum, x, 3), 'sum: dim is out of range')
  lu.assertStrContains(message_of(x.sum, x, { 1, -2 }), 'stands twice')
  lu.assertStrContains(message_of(function() return x[0] end), 'positions count from 1')
  lu.assertStrContains(message_of(function() return x[3] end), 'select:')
end

function T.test_wrong_options_are_told()
  local x = vestige.tensor{ { 3, 1, 2 }, { 5, 6, 4 } }
  lu.assertStrContains(message_of(x.sum, x, { dimm = 1 }),
                       "unknown option 'dimm', did you mean 'dim'?")
  lu.assertStrContains(message_of(x.sum, x, { [2] = 1 }), "sum: unknown option '2'")
  lu.assertStrContains(message_of(x.relu, x, { dim = 1 }),
                       "relu: unknown option 'dim'; it has none")
  lu.assertStrContains(message_of(x.relu, x, 1), 'relu: too many arguments: got 1')
  lu.assertStrContains(message_of(x.sum, x, 1, true, 5), 'sum: too many arguments: got 5')
  lu.assertStrContains(message_of(x.sum, x, { dim = 1 }, true), 'must be the last argument')
  lu.assertStrContains(message_of(x.sum, x, 'a'), "option dim: expected a list of numbers, got 'a'")
  lu.assertStrContains(message_of(x.sum, x, 1, x),
                       'option keepdim: expected true or false, got a t')
  lu.assertStrContains(message_of(x.sum, x, 1.5), 'expected a whole number, got 1.5')
  lu.assertStrContains(message_of(x.sum, x, 1 / 0), 'expected a whole number, got inf')
  lu.assertStrContains(message_of(x.reshape, x, 1, 2, 3, 4, 5, 6, 7, 8, 9), 'at most 8 numbers')
  lu.assertStrContains(message_of(x.reshape, x), 'reshape: option size is missing')
  lu.assertStrContains(message_of(x.to, x, 'f33'), "to: option dtype: expected one of")
  lu.assertStrContains(message_of(vestige.zeros, 2, { device = 'gpu' }), "unknown device 'gpu'")
  lu.assertStrContains(message_of(vestige.zeros, 2, { requires_grad = 1 }),
                       'expected true or false')
  lu.assertStrContains(message_of(vestige.randn, 2, { generator = 3 }),
                       'expected a vestige.generator')
  lu.assertStrContains(message_of(vestige.add, x), 'add: b: expected a tensor or a number, got nil')
  lu.assertStrContains(message_of(vestige.add, 1, 2), 'add: ')
  lu.assertStrContains(message_of(vestige.linear, x), 'linear: w')
  lu.assertStrContains(message_of(function() return x.summ end), "did you mean 'sum'?")
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'calls', T } })
