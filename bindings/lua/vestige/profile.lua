--- What runs, how often, how long.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local fail = require 'vestige.fail'
local C, check = base.C, base.check

-- The engine's table as a list, slowest first.
local function read()
  local list, row = {}, ffi.new 'vestige_profile_row'
  while C.vestige_profile_get(#list, row) >= 0 do
    local level = C.vestige_kernel_level(row.op, row.device, row.dtype)
    list[#list + 1] = {
      name = ffi.string(C.vestige_op_row(row.op).name),
      dtype = ffi.string(C.vestige_dtype_name(row.dtype)),
      device = ffi.string(C.vestige_device_name(row.device)),
      level = level ~= nil and ffi.string(level) or '-',
      count = tonumber(row.count), seconds = row.seconds, bytes = row.bytes, flops = row.flops,
    }
  end
  table.sort(list, function(a, b)
    if a.seconds ~= b.seconds then return a.seconds > b.seconds end
    return a.name .. a.dtype < b.name .. b.dtype
  end)
  return list
end

local function show(list)
  local total, rows = 0, {}
  for _, r in ipairs(list) do total = total + r.seconds end
  for i, r in ipairs(list) do
    rows[i] = { r.name, r.dtype, r.level, r.count, ('%.3f'):format(r.seconds * 1e3),
                ('%.1f%%'):format(100 * r.seconds / math.max(total, 1e-12)),
                ('%.1f'):format(r.bytes / math.max(r.seconds, 1e-9) * 1e-9),
                ('%.1f'):format(r.flops / math.max(r.seconds, 1e-9) * 1e-9) }
  end
  rows[#rows + 1] = { 'all', false, false, false, ('%.3f'):format(total * 1e3) }
  print(require('vestige.term').table(rows, {
    header = { 'kernel', 'type', 'level', 'count', 'ms', 'share', 'GB/s', 'GFLOP/s' } }))
end

local running = false

--- vestige.profile(fn, options): runs fn() and tells which kernels ran.
-- Returns a list, slowest first, of {name=, dtype=, device=, level=, count=, seconds=, bytes=,
-- flops=}, one for each operator, type and device; bytes are those of the inputs and outputs, a
-- level of 'ref' is a plain loop. Views run no kernel. Prints the list as a table.
-- options: print (true).
-- Errors: those of fn; inside another profile.
-- @example
-- > local list = vestige.profile(function() return vestige.ones(3) * 2 end, {print=false})
-- > assert(#list == 2 and list[1].count == 1)
return function(fn, options)
  if type(fn) ~= 'function' then fail('profile: expected a function, got ' .. type(fn)) end
  for k in pairs(options or {}) do
    if k ~= 'print' then fail(("profile: unknown option '%s', the option is print"):format(k)) end
  end
  if running then fail('profile: another one is running') end
  running = true
  check(C.vestige_profile(1))
  local ok, message = pcall(fn)
  check(C.vestige_profile(0))
  running = false
  if not ok then error(message, 0) end
  local list = read()
  if not options or options.print ~= false then show(list) end
  return list
end
