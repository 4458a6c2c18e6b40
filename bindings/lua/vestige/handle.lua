--- Who holds tensors: scopes in C, and outside them root slots whose handles Lua keeps weakly.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local C, H, raise = base.C, base.H, base.raise

local M = {}

local ROOT = 0x80000000
local EMEMORY = -5
-- Root slot i of the engine holds a tensor; roots[i] is its handle while anyone has it.
local roots = setmetatable({}, { __mode = 'v' })
local used, highest = {}, -1
local info = ffi.new 'vestige_memory_info'
local collecting, started = 0, os.clock()

local after_drop = {}
--- Runs f whenever tensors were dropped: at the end of every scope, after every sweep.
function M.after_drop(f)
  after_drop[#after_drop + 1] = f
end

local function dropped()
  for i = 1, #after_drop do after_drop[i]() end
end

--- Gives back the tensors whose handles are gone.
function M.sweep()
  for slot = 0, highest do
    if used[slot] and roots[slot] == nil then
      used[slot] = false
      C.vestige_release_root(slot)
    end
  end
  dropped()
end

-- Half of the machine's memory: garbage alone never makes the limit grow past it.
local function ceiling()
  local file = io.open '/proc/meminfo'
  local total = file and file:read '*a':match 'MemTotal:%s*(%d+) kB'
  if file then file:close() end
  return total and tonumber(total) * 512 or 2^32
end

--- The share of the time that collections may take before the limit grows.
M.most_collecting = 0.1

--- Makes room: a sweep, and a collection when that is not enough.
-- The limit grows when most of it is really in use, or when collections take too much time.
function M.collect()
  local before = os.clock()
  M.sweep()
  C.vestige_memory(info)
  local limit = tonumber(info.limit)
  if tonumber(info.live - info.kept) > 0.8 * limit or tonumber(info.roots) > 2048 then
    collectgarbage()
    M.sweep()
    C.vestige_memory(info)
  end
  collecting = collecting + os.clock() - before
  local live = tonumber(info.live - info.kept) -- a collection frees no kept form
  if live > 0.8 * limit then
    limit = math.max(limit, live) * 1.4
  elseif collecting > M.most_collecting * (os.clock() - started) then
    limit = math.max(limit, math.min(limit * 1.4, ceiling()))
  end
  C.vestige_memory_limit(limit, math.max(4096, 2 * tonumber(info.roots)))
end

--- Remembers a handle that the engine made a root.
local function adopt(handle)
  local slot = handle._owner - ROOT
  roots[slot] = handle
  used[slot] = true
  if slot > highest then highest = slot end
end
M.adopt = adopt

--- Ends a call: registers a root, collects when asked, raises on failure.
function M.finish(status, handle)
  if status < 0 then raise('%s', ffi.string(C.vestige_message())) end
  if status > 0 then
    adopt(handle)
    if status == 2 then M.collect() end
  end
  return handle
end

--- The same for a list of results.
function M.finish_all(status, list)
  if status < 0 then raise('%s', ffi.string(C.vestige_message())) end
  if status == 0 then return end
  for i = 1, #list do
    if list[i]._owner >= ROOT then adopt(list[i]) end
  end
  if status == 2 then M.collect() end
end

--- After a call that failed: true when it ran out of memory and room was made, to try once more.
function M.retry(status)
  if status ~= EMEMORY or M.no_retry then return false end
  collectgarbage()
  collectgarbage()
  M.sweep()
  C.vestige_empty_cache()
  return true
end

--- true for a tensor.
function M.is_tensor(x)
  return ffi.istype(H, x)
end

local function keep_tensor(t, id)
  if C.vestige_alive(t) == 0 then return 0 end
  local status = C.vestige_keep(t, id)
  if status > 0 then adopt(t) end
  return status
end

-- Makes every tensor in a value, also inside tables, outlive scope id. The status of what failed.
local function keep_all(value, id)
  if ffi.istype(H, value) then return keep_tensor(value, id) end
  if type(value) ~= 'table' then return 0 end
  local todo, n, seen = { value }, 1, { [value] = true }
  while n > 0 do
    local t = todo[n]
    n = n - 1
    for k, v in next, t do
      if type(v) == 'cdata' and ffi.istype(H, v) then
        local status = keep_tensor(v, id)
        if status < 0 then return status end
      elseif type(v) == 'table' and not seen[v] then
        n, seen[v] = n + 1, true
        todo[n] = v
      end
      if type(k) == 'table' and not seen[k] then
        n, seen[k] = n + 1, true
        todo[n] = k
      end
    end
  end
  return 0
end

local function close(id, ok, ...)
  local kept = 0
  if ok then
    local n = select('#', ...)
    if n == 1 then
      kept = keep_all((...), id)
    elseif n > 1 then
      kept = keep_all({ ... }, id)
    end
  end
  local message = kept < 0 and ffi.string(C.vestige_message())
  local status = C.vestige_scope_close(id)
  dropped()
  if not ok then error((...), 0) end
  base.check(status)
  if message then raise('%s', message) end
  return ...
end

local scope_id = ffi.new 'uint32_t[1]'

--- Runs fn(...) in a scope: the tensors that it makes are dropped at its end.
-- What fn returns, also inside tables, moves to the outer scope. An error closes the scope and is
-- raised again. A coroutine must not yield across a scope.
-- @example
-- > local y = vestige.scope(function() return (vestige.ones{2} * 3):sum() end)
-- > assert(y:item() == 6)
function M.scope(fn, ...)
  base.check(C.vestige_scope_open(scope_id))
  return close(scope_id[0], pcall(fn, ...))
end

--- Opens a scope by hand and returns its number, for loops that close it themselves.
function M.open_scope()
  base.check(C.vestige_scope_open(scope_id))
  return scope_id[0]
end

--- Moves the tensors in a value, also inside tables, out of a scope opened by hand.
function M.move_out(value, id)
  base.check(keep_all(value, id))
end

--- Closes a scope opened by hand, and those inside it.
function M.close_scope(id)
  local status = C.vestige_scope_close(id)
  dropped()
  base.check(status)
end

--- Moves tensor t out of all scopes, and returns it.
function M.keep(t)
  local status = C.vestige_keep_root(t)
  if status ~= 0 then M.finish(status, t) end
  return t
end

--- Drops a tensor now instead of waiting for its scope or the collector.
function M.release(t)
  if t._p == nil then return end
  local owner = t._owner
  base.check(C.vestige_release(t))
  if owner >= ROOT then used[owner - ROOT], roots[owner - ROOT] = false, nil end
  dropped()
end

--- Live, peak and cached bytes, those of live that are kept forms of weights (see
-- vestige.set_weight_cache), and how many tensors, root handles and nodes are alive.
function M.memory()
  M.sweep()
  C.vestige_memory(info)
  local t = {}
  for _, k in ipairs { 'live', 'peak', 'cached', 'kept', 'limit', 'tensors', 'roots', 'nodes',
                       'allocations' } do
    t[k] = tonumber(info[k])
  end
  return t
end

return M
