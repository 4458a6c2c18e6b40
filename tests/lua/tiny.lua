--- Images for tests of whole programs, which train in a second: 8 x 8 pixels, four classes by where
-- they are bright, in IDX files.
local fs = require 'vestige.fs'

local M = {}

local function big_endian(...)
  local bytes = {}
  for _, n in ipairs { ... } do
    bytes[#bytes + 1] = string.char(bit.rshift(n, 24), bit.band(bit.rshift(n, 16), 255),
                                    bit.band(bit.rshift(n, 8), 255), bit.band(n, 255))
  end
  return table.concat(bytes)
end

local function part(folder, name, n)
  local pixels, labels = {}, {}
  for i = 0, n - 1 do
    local class = i % 4
    for p = 0, 63 do
      local quarter = math.floor(p / 32) * 2 + math.floor(p % 8 / 4)
      pixels[#pixels + 1] = string.char(math.random(0, 120) + (quarter == class and 60 or 0))
    end
    labels[#labels + 1] = string.char(class)
  end
  fs.write(('%s/%s-images-idx3-ubyte'):format(folder, name),
           big_endian(0x803, n, 8, 8) .. table.concat(pixels))
  fs.write(('%s/%s-labels-idx1-ubyte'):format(folder, name),
           big_endian(0x801, n) .. table.concat(labels))
end

--- Writes 120 training and 60 test images to a folder, the same at every call.
function M.write(folder)
  fs.mkdir(folder)
  math.randomseed(1)
  part(folder, 'train', 120)
  part(folder, 't10k', 60)
end

--- The options with which experiments are short on them.
M.options = '--train-size 0 --test-size 0 --width 2 --train.epochs 8 --train.batch-size 30 '
  .. '--train.lr 0.05'

return M
