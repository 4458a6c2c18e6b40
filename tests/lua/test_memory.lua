-- Memory: what loops leave behind, in and out of scopes; sweeps and their limits; what scopes
-- return; running out.
local lu = require 'luaunit'
local counts = require 'tests.lua.counts'
local vestige = require 'vestige'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'

local C = base.C
local T = {}
local MB = 2^20
local ffi_info = require('ffi').new 'vestige_memory_info'

local function message_of(f, ...)
  local ok, message = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'test_memory.lua:')
  return message
end

-- ---- Forwards whose loss is dropped ----
local function forwards(x, w, b, mean, var)
  return x:tanh():sum() + x:exp():mean() + x:softmax(2):square():sum()
         + x:batch_norm(w, b, mean, var, { training = true }):tanh():sum()
end

local function operands()
  local function leaf(value) return vestige.full({ 6 }, value, { requires_grad = true }) end
  return vestige.randn({ 8, 6 }, { requires_grad = true }), leaf(1), leaf(0), vestige.zeros{ 6 },
         vestige.ones{ 6 }
end

-- 1,000 rounds of f, with memory looked at after the first and the last.
local function flat(f)
  local x, w, b, mean, var = operands()
  f(x, w, b, mean, var)
  local before = counts()
  for _ = 1, 1000 do f(x, w, b, mean, var) end
  lu.assertEquals(counts(), before)
end

local function differentiate(...)
  local x = ...
  return vestige.grad(forwards(...), x, { create_graph = true })
end

function T.test_dropped_losses_outside_scopes() flat(function(...) forwards(...) end) end
function T.test_dropped_losses_in_scopes()
  flat(function(...) vestige.scope(forwards, ...):release() end)
  flat(function(...)
    local id = vestige.open_scope()
    forwards(...)
    vestige.close_scope(id)
  end)
end
function T.test_dropped_gradients_with_create_graph()
  flat(function(...) differentiate(...) end)
  flat(function(...) vestige.scope(differentiate, ...):release() end)
end
function T.test_dropped_losses_in_one_long_scope()
  local before = counts()
  vestige.scope(function() flat(function(...) vestige.scope(forwards, ...):release() end) end)
  lu.assertEquals(counts(), before)
end

-- In a scope memory is the same at every step, not only at the end.
function T.test_memory_is_flat_over_steps()
  local x, w, b, mean, var = operands()
  local live
  for step = 1, 50 do
    vestige.scope(function()
      local g = vestige.grad(forwards(x, w, b, mean, var), { x, w, b })
      vestige.no_grad(function() x:sub_(g[1] * 0.1) end)
    end)
    local info = vestige.memory()
    if step == 5 then live = info.live end
    if step > 5 then lu.assertEquals(info.live, live) end
  end
end

-- ---- Sweeps ----
function T.test_large_roots_do_not_pile_up()
  counts()
  C.vestige_memory_limit(64 * MB, 4096)
  vestige.reset_peak()
  local start, share = vestige.memory().live, handle.most_collecting
  handle.most_collecting = math.huge -- how long collections take is the machine's affair
  for _ = 1, 400 do vestige.zeros{ 2^20 } end -- 4 MB each
  handle.most_collecting = share
  lu.assertTrue(vestige.memory().peak - start < 160 * MB)
end

function T.test_the_limit_grows_with_what_is_in_use()
  counts()
  C.vestige_memory_limit(16 * MB, 4096)
  local held = {} -- luacheck: ignore
  for i = 1, 20 do held[i] = vestige.zeros{ 2^20 } end
  lu.assertEquals(#held, 20)
  local info = vestige.memory()
  lu.assertTrue(info.live >= 80 * MB)
  lu.assertTrue(info.limit > info.live)
  held = nil -- luacheck: ignore
  counts()
  C.vestige_memory_limit(256 * MB, 4096)
end

function T.test_many_tiny_roots()
  counts()
  local most = 0
  local sum = vestige.zeros{ 1 }
  for i = 1, 50000 do
    sum = sum + 1
    if i % 500 == 0 then
      C.vestige_memory(ffi_info)
      most = math.max(most, tonumber(ffi_info.roots))
    end
  end
  lu.assertEquals(sum:item(), 50000)
  lu.assertTrue(most < 20000, most)
end

function T.test_held_roots_survive_sweeps()
  local held = {}
  for i = 1, 6000 do held[i] = vestige.full({ 1 }, i) end -- past the limit of roots
  vestige.collect()
  collectgarbage()
  vestige.collect()
  for i = 1, 6000, 37 do lu.assertEquals(held[i]:item(), i) end
end

-- ---- What scopes return ----
function T.test_tensors_in_nested_tables_survive()
  local out = vestige.scope(function()
    return vestige.scope(function()
      local t = vestige.ones{ 3 }
      local one = { list = { t, t, { deep = vestige.zeros{ 2 } + 1 } } }
      one.self = one
      return one, t
    end)
  end)
  collectgarbage()
  vestige.memory()
  lu.assertEquals(out.list[1]:tolist(), { 1, 1, 1 })
  lu.assertEquals(out.list[2]:tolist(), { 1, 1, 1 })
  lu.assertEquals(out.list[3].deep:tolist(), { 1, 1 })
end

function T.test_a_deep_list_survives()
  local out = vestige.scope(function()
    local list = {}
    for i = 1, 20000 do list = { next = list, t = i == 1 and vestige.ones{ 1 } or nil } end
    return list
  end)
  for _ = 1, 19999 do out = out.next end
  lu.assertEquals(out.t:item(), 1)
end

function T.test_what_belongs_outside_stays_there()
  local before = counts()
  vestige.scope(function()
    local x
    vestige.scope(function()
      x = vestige.ones{ 2 }
      lu.assertEquals(vestige.scope(function() return x end), x)
    end)
    lu.assertFalse(x:alive())
  end)
  lu.assertEquals(counts(), before)
end

function T.test_results_pass_through_scopes_as_they_are()
  lu.assertEquals({ vestige.scope(function(...) return ... end, 1, nil, 'x', nil) },
                  { 1, nil, 'x', nil })
  local kept
  vestige.scope(function() kept = vestige.keep(vestige.ones{ 2 }) end)
  lu.assertEquals(kept:tolist(), { 1, 1 })
  local lost
  vestige.scope(function() lost = vestige.ones{ 2 } end)
  local message = message_of(lost.sum, lost)
  lu.assertStrContains(message, 'the tensor is gone: its scope was closed')
  kept:release()
  lu.assertStrContains(message_of(function() return kept + 1 end), 'add: the tensor was released')
end

function T.test_errors_close_scopes()
  local before = counts()
  local ok, message = pcall(vestige.scope, function()
    vestige.ones{ 3 }
    vestige.scope(function() error 'stop' end)
  end)
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'stop')
  lu.assertEquals(C.vestige_scope_current(), 0)
  lu.assertEquals(counts(), before)
  local object = {}
  ok, message = pcall(vestige.scope, error, object)
  lu.assertTrue(not ok and message == object)
end

function T.test_a_coroutine_does_not_yield_across_a_scope()
  local before = counts()
  local co
  vestige.scope(function()
    co = coroutine.create(function()
      return vestige.scope(function()
        local x = vestige.ones{ 2 }
        coroutine.yield()
        return x
      end)
    end)
    lu.assertTrue(coroutine.resume(co))
  end)
  local ok, message = coroutine.resume(co)
  lu.assertFalse(ok)
  lu.assertStrContains(message, 'a coroutine must not yield across a scope')
  co = nil -- luacheck: ignore
  lu.assertEquals(counts(), before)
end

-- ---- Running out ----
function T.test_out_of_memory_is_an_error_like_any_other()
  local before = counts()
  vestige.empty_cache()
  C.vestige_memory_cap(before.live + 8 * MB)
  local message = message_of(function() return vestige.zeros{ 4, 2^20 } end)
  lu.assertStrContains(message, 'out of memory on cpu: 16777216 bytes asked')
  message = message_of(vestige.scope, function()
    local x = vestige.ones{ 2^18 }
    for _ = 1, 100 do x = x + 1 end
    return x
  end)
  lu.assertStrContains(message, 'out of memory')
  lu.assertEquals(counts(), before)
  -- Outside scopes what was dropped makes room: nothing fails.
  local x = vestige.ones{ 2^18 }
  for _ = 1, 100 do x = x + 1 end
  C.vestige_memory_cap(0)
  lu.assertEquals(x:mean():item(), 101)
  lu.assertStrContains(message_of(vestige.zeros, 2^40, 2^40), 'out of memory')
end


os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'memory', T } })
