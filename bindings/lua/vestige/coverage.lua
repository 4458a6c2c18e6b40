--- vestige.kernels(): which kernel serves each operator.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local convert = require 'vestige.convert'
local C = base.C

local types = {}
for t = 0, 6 do types[t + 1] = ffi.string(C.vestige_dtype_name(t)) end

-- One line an operator, one column a type: the level of its kernel on the processor.
local function text(list)
  local by_name, order = {}, {}
  for _, k in ipairs(list) do
    if k.device == 'cpu' then
      if not by_name[k.name] then
        by_name[k.name] = { k.name }
        order[#order + 1] = by_name[k.name]
      end
      for i, t in ipairs(types) do
        by_name[k.name][i + 1] = by_name[k.name][i + 1] or false
        if t == k.dtype then by_name[k.name][i + 1] = k.level end
      end
    end
  end
  local fast = 0
  for _, row in ipairs(order) do
    if row[2] and row[2] ~= 'ref' then fast = fast + 1 end
  end
  return ('%s\n%d operators, %d of them with a fast kernel in f32; ref is a plain loop'):format(
    require('vestige.term').table(order, { header = { 'operator', unpack(types) } }), #order, fast)
end

return function(rows)
  --- vestige.kernels(): which kernel serves each operator, by device and type: a list of {name=,
  -- device=, dtype=, level=}, which prints as a table of the processor. level is 'ref' for a plain
  -- loop, the instruction-set level for a fast kernel.
  return function()
    local list = {}
    for _, row in ipairs(rows) do
      for device, d in pairs(convert.devices) do
        for t = 0, 6 do
          local level = C.vestige_kernel_level(row.op, d, t)
          if level ~= nil then
            list[#list + 1] = { name = row.name, device = device, dtype = types[t + 1],
                                level = ffi.string(level) }
          end
        end
      end
    end
    return setmetatable(list, { __tostring = text })
  end
end
