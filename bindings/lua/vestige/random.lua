--- Random streams: Philox, keyed by (seed, name), so that one stream never disturbs another.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local C, raise = base.C, base.raise

local M = {}

local Stream = {}
Stream.__index = Stream

--- vestige.manual_seed(seed): restarts the stream that operators draw from.
function M.manual_seed(seed)
  if type(seed) ~= 'number' or seed ~= math.floor(seed) or seed < 0 or seed > 2^53 then
    raise('manual_seed: expected a whole number from 0 to 2^53, got ' .. tostring(seed))
  end
  local s = ffi.new 'vestige_stream'
  s.key = C.vestige_stream_key(seed, 'default')
  C.vestige_stream_set(s)
end

--- vestige.generator(seed, name): a stream of its own, for random operators' option generator.
-- @example
-- > local a = vestige.randn({3}, {generator=vestige.generator(1, 'noise')})
-- > local b = vestige.randn({3}, {generator=vestige.generator(1, 'noise')})
-- > assert((a - b):abs():max():item() == 0)
function M.generator(seed, name)
  local s = ffi.new 'vestige_stream'
  s.key = C.vestige_stream_key(seed, name or 'default')
  return setmetatable({ stream = s, seed = seed, name = name }, Stream)
end

--- g:state(): what to save; g:restore(state) goes back to it.
function Stream:state()
  return ('%s:%s'):format(tostring(self.stream.key), tostring(self.stream.offset))
end

local function u64(text)
  local n = 0ULL
  for digit in text:gmatch '%d' do n = n * 10 + (digit:byte() - 48) end
  return n
end

--- g:restore(state): goes back to a state that g:state() gave.
function Stream:restore(state)
  local key, offset = state:match '^(%d+)ULL:(%d+)ULL$'
  if not key then raise('generator: expected a state from g:state(), got ' .. tostring(state)) end
  self.stream.key, self.stream.offset = u64(key), u64(offset)
  return self
end

--- vestige.with_generator(g, fn, ...): fn(...) with g as the stream that operators draw from.
-- @example
-- > local function draw() return vestige.randn{3}:sum():item() end
-- > local a = vestige.with_generator(vestige.generator(1, 'init'), draw)
-- > assert(a == vestige.with_generator(vestige.generator(1, 'init'), draw))
function M.with_generator(g, fn, ...)
  local outer = ffi.new 'vestige_stream'
  C.vestige_stream_get(outer)
  C.vestige_stream_set(g.stream)
  local function back(ok, ...)
    C.vestige_stream_get(g.stream)
    C.vestige_stream_set(outer)
    if not ok then error((...), 0) end
    return ...
  end
  return back(pcall(fn, ...))
end

return M
