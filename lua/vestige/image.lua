--- Images: PNG and JPEG files to tensors H,W,C and back to PNG.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local files = require 'vestige.io'
local C, raise, check = base.C, base.raise, base.check

local M = {}

-- The options of reading, and what to do with the u8 tensor.
local function read_options(what, options)
  options = files.check_options(what, options, { channels = true, dtype = true })
  local channels, dtype = options.channels or 0, options.dtype or 'u8'
  if type(channels) ~= 'number' or channels % 1 ~= 0 or channels < 0 or channels > 4 then
    raise(('%s: option channels: expected 1 to 4, got %s'):format(what, tostring(channels)))
  end
  if dtype ~= 'u8' and dtype ~= 'f32' and dtype ~= 'f64' then
    raise(("%s: option dtype: expected 'u8', 'f32' or 'f64', got '%s'"):format(what,
          tostring(dtype)))
  end
  return channels, function(x)
    if dtype == 'u8' then return x end
    return x:to(dtype) / 255
  end
end

--- image.load(path, options): a PNG or JPEG file as a u8 tensor H,W,C.
-- Options: channels (1 gray, 2 gray and alpha, 3 colours, 4 with alpha; default: as the image has),
-- dtype ('f32' or 'f64' gives values from 0 to 1; default 'u8'). 16 bits a channel are read as 8.
-- @example
-- > local image = require 'vestige.image'
-- > local ok, message = pcall(image.load, '/nowhere/cat.png')
-- > assert(not ok and message:find('/nowhere/cat.png: image: cannot read', 1, true))
function M.load(path, options)
  files.check_path('image.load', path)
  local channels, convert = read_options('image.load', options)
  return convert(files.one(function(h) return C.vestige_image_read(h, path, channels) end))
end

--- image.decode(bytes, options): the same from a string that holds the file.
-- @example
-- > local image = require 'vestige.image'
-- > local x = image.decode(image.encode(vestige.ones{2, 3, 3}))
-- > assert(x:shape()[2] == 3 and x:dtype() == 'u8')
function M.decode(bytes, options)
  if type(bytes) ~= 'string' then
    raise('image.decode: expected a string, got ' .. type(bytes))
  end
  local channels, convert = read_options('image.decode', options)
  return convert(files.one(function(h)
    return C.vestige_image_decode(h, bytes, #bytes, channels)
  end))
end

--- image.load_all(paths, options): n images of one size as one u8 tensor n,H,W,C, decoded on
-- threads. Options: channels as for image.load (default: as the first image has), workers (default:
-- one a core). An image of another size raises; the message names its file.
function M.load_all(paths, options)
  options = files.check_options('image.load_all', options, { channels = true, workers = true })
  local channels = read_options('image.load_all', { channels = options.channels })
  local workers = options.workers or 0
  if type(workers) ~= 'number' or workers % 1 ~= 0 or workers < 0 or workers > 1024 then
    raise('image.load_all: option workers: expected a whole number, got ' .. tostring(workers))
  end
  for i = 1, #paths do files.check_path('image.load_all', paths[i]) end
  local list = files.c_strings(paths)
  return files.one(function(h)
    return C.vestige_image_read_all(h, #paths, list, channels, workers)
  end)
end

local function check_tensor(what, x)
  if not handle.is_tensor(x) then
    raise(('%s: expected a tensor, got %s'):format(what, type(x)))
  end
end

--- image.save(path, x): writes x (H,W) or (H,W,C) as PNG. C is 1 (gray), 2 (gray and alpha), 3 or
-- 4. x is u8, or of a float type with values from 0 to 1: others are clamped, a NaN raises.
function M.save(path, x)
  files.check_path('image.save', path)
  check_tensor('image.save', x)
  check(C.vestige_image_write(path, x))
end

--- image.encode(x): the PNG of x as a string.
-- @example
-- > assert(require('vestige.image').encode(vestige.zeros{2, 2}):sub(2, 4) == 'PNG')
function M.encode(x)
  check_tensor('image.encode', x)
  local t = files.one(function(h) return C.vestige_image_encode(h, x) end)
  local data, n = t:data()
  handle.release(t)
  return ffi.string(data, n)
end

return M
