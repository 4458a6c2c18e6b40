--- What is known about the engine's tensors: completion behind their __index function, and how
-- show(x) and plot(x) read them, at the prompt and in scripts.
local ffi = require 'ffi'
local complete = require 'vestige.repl.complete'
local draw = require 'vestige.repl.draw'
local H = require('vestige.ffi').H

local M = {}

local floats = { f32 = true, f64 = true, bf16 = true }

-- A tensor as the plain form of a picture: (H,W), (H,W,C), (N,H,W,1) or (N,H,W,3), the last two
-- dimensions told apart by the size of the last. Bytes are taken as parts of 255.
local function image(x)
  local shape, kind = x:shape(), x:dtype()
  if not (floats[kind] or kind == 'u8' or kind == 'bool') then return nil end
  local n, h, w, c = 1, nil, nil, 1
  local last = shape[#shape]
  local coloured = last == 1 or last == 3
  if #shape == 4 and coloured then
    n, h, w, c = shape[1], shape[2], shape[3], last
  elseif #shape == 3 and coloured then
    h, w, c = shape[1], shape[2], last
  elseif #shape == 3 then
    n, h, w = shape[1], shape[2], last
  elseif #shape == 2 then
    h, w = shape[1], last
  end
  if not h or n * h * w == 0 then return nil end
  local values = x:tolist()
  local scale = kind == 'u8' and 1 / 255 or 1
  return { n = n, h = h, w = w, c = c, get = function(i, y, px, channel)
    local v = values[(((i - 1) * h + y - 1) * w + px - 1) * c + channel]
    return v == true and 1 or v and v * scale or 0
  end }
end

local function is_tensor(x) return type(x) == 'cdata' and ffi.istype(H, x) end
draw.register_image(function(x) return is_tensor(x) and image(x) or nil end)
draw.register_series(function(x) return is_tensor(x) and x:tolist() or nil end)

--- Tells completion about the engine's tensors; `vestige` is its module.
function M.connect(vestige)
  local methods = require('vestige.tensor').methods
  vestige._name_all()
  local names = { 'grad' }
  for name in pairs(methods) do names[#names + 1] = name end
  complete.register(function(x)
    return is_tensor(x) and names or nil
  end, function(x, name)
    if is_tensor(x) then return name == 'grad' and x.grad or methods[name] end
    -- The engine's own modules load when they are named, here too.
    if rawequal(x, vestige) and name:find('^%l') then return vestige[name] end
  end)
end

return M
