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

--- Gives back the tensors whose handles are gone.
function M.sweep()
  for slot = 0, highest do
    if used[slot] and roots[slot] == nil then
      used[slot] = false
      C.vestige_release_root(slot)
    end
  end
end

--- Makes room: a sweep, and a collection when that is not enough.
-- The limit grows when most of it is really in use, or when collections take over a tenth of time.
function M.collect()
  C.vestige_memory(info)
  local limit, before = tonumber(info.limit), os.clock()
  M.sweep()
  C.vestige_memory(info)
  if tonumber(info.live) > 0.8 * limit or tonumber(info.roots) > 2048 then
    collectgarbage()
    M.sweep()
    C.vestige_memory(info)
  end
  collecting = collecting + os.clock() - before
  local busy = collecting > 0.1 * (os.clock() - started)
  if tonumber(info.live) > 0.8 * limit or busy then
    limit = math.max(limit, tonumber(info.live)) * 1.4
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

-- Moves every tensor in a value, also inside tables, to the outer scope; with an owner, only those
-- that this scope holds.
local function keep_all(value, seen, owner)
  if ffi.istype(H, value) then
    if C.vestige_alive(value) == 1 and (not owner or value._owner == owner) then
      local status = C.vestige_keep(value)
      if status > 0 then M.finish(status, value) end
    end
  elseif type(value) == 'table' and not seen[value] then
    seen[value] = true
    for k, v in next, value do
      if type(v) == 'table' or type(v) == 'cdata' then keep_all(v, seen, owner) end
      if type(k) == 'table' then keep_all(k, seen, owner) end
    end
  end
end

local hooks_at_close = {}
--- Runs f at the end of every scope.
function M.at_scope_end(f)
  hooks_at_close[#hooks_at_close + 1] = f
end

local function close(id, ok, ...)
  if ok then
    local n = select('#', ...)
    if n == 1 then
      local one = ...
      if one ~= nil then keep_all(one, {}) end
    elseif n > 1 then
      keep_all({ ... }, {})
    end
  end
  local status = C.vestige_scope_close(id)
  for i = 1, #hooks_at_close do hooks_at_close[i]() end
  if not ok then error((...), 0) end
  base.check(status)
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
  keep_all(value, {}, id)
end

--- Closes a scope opened by hand, and those inside it.
function M.close_scope(id)
  base.check(C.vestige_scope_close(id))
  for i = 1, #hooks_at_close do hooks_at_close[i]() end
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
  if t._owner >= ROOT then
    local slot = t._owner - ROOT
    used[slot] = false
    roots[slot] = nil
  end
  base.check(C.vestige_release(t))
end

--- Live, peak and cached bytes, and how many tensors, root handles and nodes are alive.
function M.memory()
  M.sweep()
  C.vestige_memory(info)
  local t = {}
  for _, k in ipairs { 'live', 'peak', 'cached', 'limit', 'tensors', 'roots', 'nodes',
                       'allocations' } do
    t[k] = tonumber(info[k])
  end
  return t
end

return M
