--- Lua values as the slots of a call's options: one converter for each kind of option.
-- A converter convert[kind](row, p, slots, v) writes v, or raises and names operator and option. It
-- makes no table and runs no loop, so that the operators' functions stay compiled.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local H, raise = base.H, base.raise

local M = {}

local dtypes = { f32 = 0, f64 = 1, bf16 = 2, i64 = 3, i32 = 4, u8 = 5, bool = 6,
                 float = 0, double = 1 }
local devices = { cpu = 0, ref = 1 }
M.dtypes, M.devices = dtypes, devices

local function sorted_keys(t)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys)
  return keys
end

--- What an error says of a value: short, whatever it is.
function M.text(v)
  if ffi.istype(H, v) then return 'a tensor' end
  if type(v) == 'string' then return ("'%s'"):format(v) end
  if type(v) == 'number' or type(v) == 'boolean' or v == nil then return tostring(v) end
  return 'a ' .. type(v)
end

--- The number of a type's name, or an error that lists the types.
function M.dtype_number(name)
  local n = dtypes[name]
  if n then return n end
  raise(('unknown type %s: expected %s'):format(M.text(name),
        table.concat(sorted_keys(dtypes), ', ')))
end

--- The number of a device's name, or an error that lists the devices.
function M.device_number(name)
  local n = devices[name]
  if n then return n end
  if name == 'cuda' then raise("device 'cuda': this build has no CUDA") end
  raise(('unknown device %s: expected cpu or ref'):format(M.text(name)))
end

local convert = {}
M.convert = convert

local function bad(row, p, expected, v)
  raise(('%s: option %s: expected %s, got %s'):format(row.name, p.name, expected, M.text(v)))
end

local LARGEST = 2^53

local function whole(row, p, v)
  if type(v) == 'cdata' and not ffi.istype(H, v) then v = tonumber(v) end
  if type(v) ~= 'number' or v ~= math.floor(v) or v > LARGEST or v < -LARGEST then
    bad(row, p, 'a whole number', v)
  end
  return v
end

-- Dimensions and positions count from 1 in Lua, from 0 in C; negative ones from the end in both.
local function from_one(row, p, v)
  v = whole(row, p, v)
  if v == 0 then
    raise(('%s: option %s: counts from 1 (or -1 from the end), got 0'):format(row.name, p.name))
  end
  return v > 0 and v - 1 or v
end

function convert.int(row, p, o, v) o[p.slot] = whole(row, p, v) end
function convert.dim(row, p, o, v) o[p.slot] = from_one(row, p, v) end
convert.position = convert.dim

function convert.int2(row, p, o, v)
  local s = p.slot
  if type(v) == 'table' then
    if v[3] ~= nil or v[2] == nil then bad(row, p, 'one number or two', v) end
    o[s], o[s + 1] = whole(row, p, v[1]), whole(row, p, v[2])
  else
    o[s] = whole(row, p, v)
    o[s + 1] = o[s]
  end
end

local eight = [[
local item, bad = ...
return function(row, p, o, v1, v2, v3, v4, v5, v6, v7, v8, more)
  local s = p.slot
  if more ~= nil then bad(row, p, 'at most 8 numbers', more) end
  %s
  o[s] = 8
  return true
end]]

-- put(row, p, slots, v1, ..., v8) writes the numbers up to the first nil; false at what is no
-- number.
local function put_numbers(item)
  local lines = {}
  for i = 1, 8 do
    lines[i] = ([[
  if v$ == nil then o[s] = $ - 1 return true end
  if type(v$) == 'table' or type(v$) == 'string' then return false end
  o[s + $] = item(row, p, v$)]]):gsub('%$', i)
  end
  local text = eight:format(table.concat(lines, '\n  '))
  return assert(loadstring(text, '=vestige.convert'))(item, bad)
end

local function list_of(put)
  return function(row, p, o, v)
    local done
    if type(v) == 'number' then
      done = put(row, p, o, v)
    elseif type(v) == 'table' then
      done = put(row, p, o, v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9])
    end
    if not done then bad(row, p, 'a list of numbers', v) end
  end
end

--- put[kind](row, p, slots, v1, v2, ...): the same for numbers that are given one by one.
M.put = { ints = put_numbers(whole), dims = put_numbers(from_one) }
M.put.size = M.put.ints
convert.ints, convert.dims = list_of(M.put.ints), list_of(M.put.dims)
convert.size = convert.ints

function convert.float(row, p, o, v)
  if type(v) ~= 'number' then bad(row, p, 'a number', v) end
  o[p.slot] = v
end

function convert.bool(row, p, o, v)
  if type(v) ~= 'boolean' then bad(row, p, 'true or false', v) end
  o[p.slot] = v and 1 or 0
end

function convert.enum(row, p, o, v)
  local n = p.choices[v]
  if not n then bad(row, p, 'one of ' .. p.choice_text, v) end
  o[p.slot] = n
end

function convert.dtype(row, p, o, v)
  local n = dtypes[v]
  if not n then bad(row, p, 'one of ' .. table.concat(sorted_keys(dtypes), ', '), v) end
  o[p.slot] = n
end

return M
