-- One loop over the operator registry: forward against ref, gradients against finite differences
-- and against PyTorch's numbers, determinism, messages, failing allocations.
-- luajit tests/ops/registry.lua [PART ...] [op=NAME ...]; parts are forward, grad, golden, same,
-- alloc, rows; op=NAME leaves only that operator's cases.
local ffi = require 'ffi'
local lu = require 'luaunit'
local vestige = require 'vestige'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local cases = require 'tests.ops.cases'

local C = base.C
local parts, only = {}, {}
for _, a in ipairs(arg) do
  local level, op = a:match '^level%-(.*)', a:match '^op=(.*)'
  if op then
    only[op] = true
  elseif not level then
    parts[a] = true
  elseif vestige.info()['cpu level'] ~= level then
    print(('skipped: this processor has %s, not %s'):format(vestige.info()['cpu level'], level))
    os.exit(77)
  end
end
local function wanted(part)
  return next(parts) == nil or parts[part]
end

if next(only) then
  local chosen = {}
  for _, case in ipairs(cases.list) do
    if only[case.op] then chosen[#chosen + 1] = case end
  end
  assert(#chosen > 0, 'no case of that operator')
  cases.list = chosen
end

local tolerance = { f64 = 1e-12, f32 = 2e-5, bf16 = 2^-7 }

local function outputs(...)
  local list = {}
  for i = 1, select('#', ...) do list[i] = (select(i, ...)) end
  return list
end

-- The elements as a C array of doubles; large tensors are compared, so no Lua tables.
local function doubles(t)
  local kind = t:dtype()
  local data, n = ((kind == 'f64' or kind == 'i64' or kind == 'i32') and t or t:to 'f64'):data()
  return data, n
end

-- The largest difference of two tensors relative to the largest element of the second.
local function apart(a, b)
  local x, n = doubles(a:device() == 'cpu' and a:detach() or a:detach():to 'cpu')
  local y = doubles(b:device() == 'cpu' and b:detach() or b:detach():to 'cpu')
  local worst, scale = 0, 1
  for i = 0, n - 1 do
    local p, q = tonumber(x[i]), tonumber(y[i])
    local size = math.abs(q)
    if size > scale and size < math.huge then scale = size end
    if p ~= q and (p == p or q == q) then
      local off = math.abs(p - q)
      if off ~= off then off = math.huge end
      if off > worst then worst = off end
    end
  end
  return worst / scale
end

local function has_kernel(row, device, dtype)
  return C.vestige_kernel_level(row.op, device, base.C.vestige_dtype_size and
         require('vestige.convert').dtypes[dtype]) ~= nil
end

local function in_scope(f)
  return function() vestige.scope(f) end
end

local suite = {}
local function add(part, name, f)
  if not wanted(part) then return end
  local class = 'Test_' .. part
  suite[class] = suite[class] or {}
  suite[class]['test_' .. name:gsub('[^%w_]', '_')] = f
end

-- ---- forward: cpu against ref, in every float type ----
for _, case in ipairs(cases.list) do
  for _, dtype in ipairs(case.dtypes or { 'f64', 'f32', 'bf16' }) do
    add('forward', case.name .. '_' .. dtype, in_scope(function()
      local run, floats, row = cases.build(case, dtype, 'cpu')
      if dtype == 'bf16' and not has_kernel(row, 0, 'bf16') then return end
      local got = outputs(run(unpack(floats)))
      local run_ref, floats_ref = cases.build(case, dtype, 'ref')
      local expected = outputs(run_ref(unpack(floats_ref)))
      lu.assertEquals(#got, #expected)
      lu.assertTrue(#got > 0)
      for k = 1, #got do
        lu.assertEquals(got[k]:shape(), expected[k]:shape())
        lu.assertEquals(got[k]:dtype(), expected[k]:dtype())
        local kind = got[k]:dtype()
        local limit = (case.tolerance or {})[kind] or tolerance[kind] or 0
        local off = apart(got[k], expected[k])
        lu.assertTrue(off <= limit, ('%s %s output %d: off by %.3g'):format(case.name, dtype, k,
                                                                            off))
      end
    end))
  end
end

-- ---- grad: gradcheck and gradgradcheck in f64 ----
local function prepared(case)
  local run, floats, row = cases.build(case, 'f64', 'cpu')
  for i = 1, #floats do floats[i]:requires_grad_() end
  return run, floats, row
end

for _, case in ipairs(cases.list) do
  local op = C.vestige_op_find(case.op)
  local differentiable = op >= 0 and bit.band(C.vestige_op_row(op).flags, 4) ~= 0
  if differentiable and not case.no_grad then
    add('grad', case.name, in_scope(function()
      local run, floats = prepared(case)
      vestige.gradcheck(run, floats, { step = case.step })
    end))
    if not case.no_gradgrad then
      add('grad', case.name .. '_second', in_scope(function()
        local run, floats = prepared(case)
        vestige.gradgradcheck(run, floats, { step = case.step })
      end))
    end
  end
end

-- ---- golden: PyTorch's forward, gradient and second gradient in f64 ----
local golden = wanted 'golden' and vestige.load('tests/golden/ops.safetensors')

local function direction(name, like)
  local n = like:numel()
  local u = cases.uniforms(name, n)
  local data = ffi.new('double[?]', math.max(n, 1))
  for i = 1, n do data[i - 1] = u[i] * 2 - 1 end
  return vestige.from_data(data, like:shape(), 'f64')
end

local function close(case, key, got)
  local expected = golden[key]
  if not expected then return end
  if not got then got = vestige.zeros_like(expected) end
  lu.assertEquals(got:shape(), expected:shape(), key)
  local off = apart(got, expected)
  local limit = (case.tolerance or {}).golden or 1e-10
  lu.assertTrue(off <= limit, ('%s: off by %.3g'):format(key, off))
end

local function sum_of_products(list, prefix)
  local total
  for i, t in ipairs(list) do
    if t and t:requires_grad() then
      local part = (t * direction(prefix .. i, t)):sum()
      total = total and total + part or part
    end
  end
  return total
end

for _, case in ipairs(cases.list) do
  if golden and cases.is_golden(case, vestige.ops()[C.vestige_op_find(case.op) + 1]) then
    add('golden', case.name, in_scope(function()
      lu.assertTrue(golden[case.name .. '/out1'] ~= nil,
                    'no golden data: run tests/golden/make_ops.py')
      local run, floats, row = cases.build(case, 'f64', 'cpu')
      local grad = row.differentiable and not case.no_grad
      if grad then
        for i = 1, #floats do floats[i]:requires_grad_() end
      end
      local ys = outputs(run(unpack(floats)))
      for k, y in ipairs(ys) do close(case, ('%s/out%d'):format(case.name, k), y) end
      local total = grad and sum_of_products(ys, case.name .. '/v')
      if not total then return end
      local second = not case.no_gradgrad
      local gs = vestige.grad(total, floats, { create_graph = second, allow_unused = true })
      for i, g in ipairs(gs) do close(case, ('%s/grad%d'):format(case.name, i), g or nil) end
      local m = second and sum_of_products(gs, case.name .. '/w')
      if not m then return end
      for i, h in ipairs(vestige.grad(m, floats, { allow_unused = true })) do
        close(case, ('%s/second%d'):format(case.name, i), h or nil)
      end
    end))
  end
end

-- ---- same: the same bits twice, and with one thread and two ----
local function bytes_of(list)
  local text = {}
  for _, t in ipairs(list) do
    if t then
      local data, n = t:data()
      text[#text + 1] = ffi.string(data, n * C.vestige_dtype_size(
                                             require('vestige.convert').dtypes[t:dtype()]))
    end
  end
  return table.concat(text, '|')
end

local function everything(case, dtype)
  local run, floats, row = cases.build(case, dtype, 'cpu')
  local with_grad = row.differentiable and not case.no_grad
  if with_grad then
    for i = 1, #floats do floats[i]:requires_grad_() end
  end
  local list = outputs(run(unpack(floats)))
  if with_grad then
    local ys = {}
    for _, y in ipairs(list) do
      if y:requires_grad() then ys[#ys + 1] = y end
    end
    local gs = {}
    for i, y in ipairs(ys) do gs[i] = vestige.ones_like(y) * 0.5 end
    if #ys > 0 then
      for _, g in ipairs(vestige.grad(ys, floats, { grad_outputs = gs, allow_unused = true })) do
        list[#list + 1] = g
      end
    end
  end
  return bytes_of(list)
end

for _, case in ipairs(cases.list) do
  for _, dtype in ipairs { 'f32', 'bf16' } do
    add('same', case.name .. '_' .. dtype, in_scope(function()
      local _, _, row = cases.build(case, dtype, 'cpu')
      if not has_kernel(row, 0, dtype) then return end
      local was = vestige.get_num_threads()
      local first = everything(case, dtype)
      lu.assertTrue(first == everything(case, dtype), 'a second run gives other bits')
      vestige.set_num_threads(1)
      local one = everything(case, dtype)
      vestige.set_num_threads(2)
      local two = everything(case, dtype)
      vestige.set_num_threads(was)
      lu.assertTrue(one == two, 'one thread and two give other bits')
      lu.assertTrue(one == first)
    end))
  end
end

-- ---- alloc: the n-th allocation fails, and nothing is lost ----
for _, case in ipairs(cases.list) do
  add('alloc', case.name, function()
    local n = 0
    repeat
      n = n + 1
      local ok, message = true, nil
      vestige.scope(function()
        local run, floats, row = cases.build(case, 'f32', 'cpu')
        local with_grad = row.differentiable and not case.no_grad
        if with_grad then
          for i = 1, #floats do floats[i]:requires_grad_() end
        end
        local before = vestige.memory()
        handle.no_retry = true
        C.vestige_fail_allocation(n)
        ok, message = pcall(vestige.scope, function()
          local ys = {}
          for _, y in ipairs(outputs(run(unpack(floats)))) do
            if y:requires_grad() then ys[#ys + 1] = y end
          end
          local gs = {}
          for i, y in ipairs(ys) do gs[i] = vestige.ones_like(y) end
          if #ys > 0 then
            vestige.grad(ys, floats, { grad_outputs = gs, allow_unused = true,
                                       create_graph = true })
          end
        end)
        C.vestige_fail_allocation(0)
        handle.no_retry = nil
        local after = vestige.memory()
        lu.assertEquals(after.live, before.live, ('allocation %d leaks'):format(n))
        lu.assertEquals(after.tensors, before.tensors)
        lu.assertEquals(after.nodes, before.nodes)
      end)
      if not ok then lu.assertStrContains(message, 'out of memory') end
    until ok or n > 2000
    lu.assertTrue(n < 2000)
  end)
end

-- ---- rows: every operator has a case, a text, and tells wrong arguments apart ----
add('rows', 'every_operator_has_a_case', function()
  local have = {}
  for _, case in ipairs(cases.list) do have[case.op] = true end
  local missing = {}
  for _, row in ipairs(vestige.ops()) do
    local asked = next(only) == nil or only[row.name]
    local found = have[row.name] or row.name:match '_$'
    if asked and not found then missing[#missing + 1] = row.name end
    lu.assertTrue(#row.doc > 0, row.name .. ' has no doc')
  end
  lu.assertEquals(missing, {})
end)

for _, row in ipairs(vestige.ops()) do
  add('rows', row.name .. '_rejects', function()
    local f = vestige._ops[row.name]
    local before = vestige.memory().live
    local ok, message = pcall(f, 'not a tensor')
    lu.assertFalse(ok)
    lu.assertStrContains(message, row.name .. ':')
    if row.ins[1] and not row.ins[1].number then
      ok, message = pcall(f)
      lu.assertFalse(ok)
      lu.assertStrContains(message, 'expected')
    end
    collectgarbage()
    lu.assertEquals(vestige.memory().live, before)
  end)
end

local instances = {}
for class, tests in pairs(suite) do instances[#instances + 1] = { class, tests } end
local runner = lu.LuaUnit.new()
runner:setOutputType 'text'
runner:runSuiteByInstances(instances)
os.exit(runner.result.notSuccessCount == 0 and 0 or 1)
