-- What data sets draw from Philox streams: orders, and planted noise.
local bit = require 'bit'
local ffi = require 'ffi'
local vestige = require 'vestige'
local C = require('vestige.ffi').C

local M = {}

local word, counter = ffi.new 'uint32_t[4]', ffi.new 'uint32_t[4]'

local function split(x)
  return tonumber(bit.band(x, 0xffffffffULL)), tonumber(bit.rshift(x, 32))
end

--- streams.permutation(n, stream, epoch): the numbers 1 to n in random order, as a list.
-- stream: from vestige.generator. Without an epoch the stream moves on; with one the order is a
-- function of the stream's state and the epoch, and the stream stays.
function M.permutation(n, stream, epoch)
  local state, key, list = stream.stream, ffi.new 'uint32_t[2]', {}
  key[0], key[1] = split(state.key)
  for i = 1, n do list[i] = i end
  local offset = tonumber(state.offset)
  for i = n, 2, -1 do
    local draw = n - i
    local half = draw % 2 * 2
    if half == 0 then
      local block = offset + draw / 2
      counter[0], counter[1], counter[2], counter[3] = block % 2^32, block / 2^32, epoch or 0, 1
      C.vestige_philox(word, counter, key)
    end
    local u = (word[half] * 2^21 + bit.rshift(word[half + 1], 11)) * 2^-53
    local j = math.floor(u * i) + 1
    list[i], list[j] = list[j], list[i]
  end
  if not epoch then state.offset = state.offset + math.ceil(n / 2) end
  return list
end

-- See data.noise.
function M.noise(seed, ids, shape)
  local n, full = 1, { #ids }
  for i = 1, #shape do
    n = n * shape[i]
    full[i + 1] = shape[i]
  end
  local out = vestige.zeros(full)
  local stream = vestige.generator(seed, 'noise')
  local blocks = math.ceil(n / 4)
  vestige.no_grad(function()
    for i, id in ipairs(ids) do
      stream.stream.offset = id * blocks
      local draw = vestige.randn(shape, { generator = stream })
      out[i] = draw
      draw:release()
    end
  end)
  return out
end

return M
