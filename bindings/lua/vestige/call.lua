--- From a row's text to a Lua function: arguments, options, results.
local ffi = require 'ffi'
local bit = require 'bit'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local nearest = require 'vestige.nearest'
local C, H, raise = base.C, base.H, base.raise
local finish, retry = handle.finish, handle.retry

local M = {}

local kinds = { [0] = 'tensor', 'list', 'int', 'int2', 'ints', 'dim', 'dims', 'position', 'size',
                'float', 'bool', 'enum', 'dtype' }
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

--- The number of a type's name, or an error that lists the types.
function M.dtype_number(name)
  local n = dtypes[name]
  if n then return n end
  raise(("unknown type '%s': expected %s"):format(tostring(name),
        table.concat(sorted_keys(dtypes), ', ')))
end

--- The number of a device's name, or an error that lists the devices.
function M.device_number(name)
  local n = devices[name]
  if n then return n end
  if name == 'cuda' then raise("device 'cuda': this build has no CUDA") end
  raise(("unknown device '%s': expected cpu or ref"):format(tostring(name)))
end

-- ---- Converters: write a Lua value into the slots of an option. ----
local convert = {}

local function bad(row, p, expected, value)
  local got = type(value) == 'string' and ("'%s'"):format(value) or tostring(value)
  raise(('%s: option %s: expected %s, got %s'):format(row.name, p.name, expected, got))
end

local function whole(row, p, v)
  if type(v) == 'cdata' and tonumber(v) then v = tonumber(v) end
  if type(v) ~= 'number' or v ~= math.floor(v) then bad(row, p, 'a whole number', v) end
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
  if type(v) == 'table' then
    if #v ~= 2 then bad(row, p, 'one number or two', '#' .. #v .. ' numbers') end
    o[p.slot], o[p.slot + 1] = whole(row, p, v[1]), whole(row, p, v[2])
  else
    o[p.slot] = whole(row, p, v)
    o[p.slot + 1] = o[p.slot]
  end
end

local function list(item)
  return function(row, p, o, v)
    if type(v) == 'number' then v = { v } end
    if type(v) ~= 'table' then bad(row, p, 'a list of numbers', v) end
    if #v > 8 then bad(row, p, 'at most 8 numbers', #v) end
    o[p.slot] = #v
    for i = 1, #v do o[p.slot + i] = item(row, p, v[i]) end
  end
end
convert.ints, convert.size, convert.dims = list(whole), list(whole), list(from_one)

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

function convert.dtype(_, p, o, v) o[p.slot] = M.dtype_number(v) end

-- ---- Rows ----
local function read_param(p)
  local t = { name = ffi.string(p.name), type = ffi.string(p.type), kind = kinds[p.kind],
              slot = p.slot, width = p.width, preset = ffi.string(p.preset),
              optional = bit.band(p.flags, 1) ~= 0, number = bit.band(p.flags, 2) ~= 0,
              inplace = bit.band(p.flags, 4) ~= 0 }
  if t.kind == 'enum' then
    t.choice_text, t.choices = ffi.string(p.choices), {}
    local n = 0
    for word in t.choice_text:gmatch '[^|]+' do t.choices[word], n = n, n + 1 end
  end
  return t
end

-- "x @dim index:int": the option dim stands before input 2 when arguments are given by place.
local function read_places(row, text)
  row.placed, row.placed_names, row.positional = {}, {}, {}
  local input = 1
  for word in (text ~= nil and ffi.string(text) or ''):gmatch '%S+' do
    local name = word:match '^@(.*)'
    if name then
      row.placed[input], row.placed_names[name] = name, true
    else
      input = input + 1
    end
  end
end

--- The row of operator number op, as a Lua table.
function M.read_row(op)
  local r = C.vestige_op_row(op)
  local row = { op = op, name = ffi.string(r.name), doc = r.doc ~= nil and ffi.string(r.doc) or '',
                nslot = r.nslot, presets = r.presets, ins = {}, outs = {}, options = {},
                by_name = {},
                random = bit.band(r.flags, 1) ~= 0, sync = bit.band(r.flags, 2) ~= 0,
                differentiable = bit.band(r.flags, 4) ~= 0, hidden = bit.band(r.flags, 8) ~= 0,
                domain = { r.domain[0], r.domain[1] } }
  for i = 0, r.nin - 1 do row.ins[i + 1] = read_param(r.ins[i]) end
  read_places(row, r['in'])
  for i = 0, r.nout - 1 do row.outs[i + 1] = read_param(r.outs[i]) end
  for i = 0, r.nopt - 1 do
    local p = read_param(r.options[i])
    row.options[i + 1], row.by_name[p.name] = p, p
    if not row.placed_names[p.name] then row.positional[#row.positional + 1] = p end
  end
  local first = row.options[1]
  row.numbers_first = first and (first.kind == 'size' or first.kind == 'dims' and r.nopt == 1)
  row.creates = #row.ins == 0
  return row
end

local extra = { device = true, requires_grad = true } -- of rows without tensor inputs

local function unknown_option(row, key)
  local names = {}
  for _, p in ipairs(row.options) do names[#names + 1] = p.name end
  if row.creates then names[#names + 1] = 'device'; names[#names + 1] = 'requires_grad' end
  if row.random then names[#names + 1] = 'generator' end
  local near = nearest.find(tostring(key), names)
  raise(("%s: unknown option '%s'%s"):format(row.name, tostring(key),
        near and (", did you mean '%s'?"):format(near)
        or #names > 0 and '; options are ' .. table.concat(names, ', ') or '; it has none'))
end

local function is_options(v)
  return type(v) == 'table' and v[1] == nil
end

-- Reads the options of a call from args[at] on into slots o. Returns device, requires_grad and
-- the generator.
local function read_options(row, args, at, n, o)
  local device, requires_grad, generator
  local position = 1
  if row.numbers_first and at <= n then
    local first = row.options[1]
    if type(args[at]) == 'number' then -- zeros(2, 3), permute(3, 1, 2)
      local size = {}
      while at <= n and type(args[at]) == 'number' do
        size[#size + 1] = args[at]
        at = at + 1
      end
      convert[first.kind](row, first, o, size)
      position = 2
    elseif type(args[at]) == 'table' and next(args[at]) == nil then
      o[first.slot] = 0
      at, position = at + 1, 2
    end
  end
  while at <= n do
    local v = args[at]
    if is_options(v) then
      if at < n then raise(row.name .. ': the table of options must be the last argument') end
      for key, value in pairs(v) do
        local p = row.by_name[key]
        if p then
          convert[p.kind](row, p, o, value)
        elseif row.creates and extra[key] then
          if key == 'device' then device = value else requires_grad = value end
        elseif row.random and key == 'generator' then
          generator = value
        else
          unknown_option(row, key)
        end
      end
    else
      local p = row.positional[position]
      if not p then
        raise(('%s: too many arguments: got %s'):format(row.name, tostring(v)))
      end
      if v ~= nil then convert[p.kind](row, p, o, v) end
      position = position + 1
    end
    at = at + 1
  end
  return device, requires_grad, generator
end

local function not_tensor(row, p, v)
  raise(('%s: %s: expected a tensor%s, got %s'):format(row.name, p.name,
        p.number and ' or a number' or '', v == nil and 'nil' or type(v)))
end

-- Reads the tensor inputs into plain Lua arrays; returns the place of the first option, and the
-- options that stood between the inputs.
local function read_inputs(row, args, tensors, numbers, lengths)
  local at, count, between = 1, 0, nil
  for i = 1, #row.ins do
    if row.placed[i] and type(args[at]) == 'number' then
      between = between or {}
      between[row.placed[i]] = args[at]
      at = at + 1
    end
    local p, v = row.ins[i], args[at]
    if p.kind == 'list' and p.optional and (v == nil or is_options(v) and next(v) ~= nil) then
      lengths[#lengths + 1] = 0
      if v ~= nil then at = at - 1 end -- the table is the options'
    elseif p.kind == 'list' then
      if type(v) ~= 'table' then
        raise(('%s: %s: expected a list of tensors, got %s'):format(row.name, p.name, type(v)))
      end
      for j = 1, #v do
        if not ffi.istype(H, v[j]) then
          raise(('%s: %s[%d]: expected a tensor, got %s'):format(row.name, p.name, j, type(v[j])))
        end
        tensors[count + j] = v[j]
      end
      count = count + #v
      lengths[#lengths + 1] = #v
    else
      count = count + 1
      if ffi.istype(H, v) then
        tensors[count] = v
      elseif p.number and type(v) == 'number' then
        numbers[count] = v
      elseif p.optional and type(v) == 'table' then
        at = at - 1 -- the table is the options'
      elseif not (p.optional and v == nil) then
        not_tensor(row, p, v)
      end
    end
    at = at + 1
  end
  return count, at, between
end

-- ---- Random rows: the current stream, or the generator that a call names ----
local Stream = ffi.typeof 'vestige_stream'
local watched -- while a checkpoint's forward runs: generators, and where they stood before

local function run(row, c, generator)
  if not generator then return C.vestige_run(c) end
  if watched and not watched[generator] then watched[generator] = Stream(generator.stream) end
  local saved = Stream()
  C.vestige_stream_get(saved)
  C.vestige_stream_set(generator.stream)
  local status = C.vestige_run(c)
  C.vestige_stream_get(generator.stream)
  C.vestige_stream_set(saved)
  return status
end

local function unwatch(draws, outer, ok, ...)
  watched = outer
  if outer then
    for g, stood in pairs(draws.generators) do outer[g] = outer[g] or stood end
  end
  if not ok then error((...), 0) end
  return draws, { ... }, select('#', ...)
end

--- Runs f(...) and returns what it drew from, for replay(), the list of its results, their number.
function M.watch(f, ...)
  local draws, outer = { current = Stream(), generators = {} }, watched
  C.vestige_stream_get(draws.current)
  watched = draws.generators
  return unwatch(draws, outer, pcall(f, ...))
end

local function stand_at(now, ok, ...)
  C.vestige_stream_set(now.current)
  for g, stood in pairs(now.generators) do ffi.copy(g.stream, stood, ffi.sizeof(Stream)) end
  if not ok then error((...), 0) end
  return ...
end

--- Runs f(...) with the draws that watch() saw; then all streams go on from where they are now.
function M.replay(draws, f, ...)
  local now = { current = Stream(), generators = {} }
  C.vestige_stream_get(now.current)
  C.vestige_stream_set(draws.current)
  for g, stood in pairs(draws.generators) do
    now.generators[g] = Stream(g.stream)
    ffi.copy(g.stream, stood, ffi.sizeof(Stream))
  end
  return stand_at(now, pcall(f, ...))
end

--- Runs a row on arguments as the user gave them, whatever their form.
function M.general(row, ...)
  local n, args = select('#', ...), { ... }
  local tensors, numbers, lengths = {}, {}, {}
  local count, at, between = read_inputs(row, args, tensors, numbers, lengths)
  local o
  local device, requires_grad, generator
  if #row.options > 0 or row.creates or at <= n then
    o = ffi.new('double[?]', row.nslot + 1, 0)
    ffi.copy(o, row.presets, row.nslot * 8)
    device, requires_grad, generator = read_options(row, args, at, n, o)
    for name, v in pairs(between or {}) do
      local p = row.by_name[name]
      convert[p.kind](row, p, o, v)
    end
  end
  local c = ffi.new 'vestige_call'
  c.op, c.nin = row.op, count
  c.device = device and M.device_number(device) or 0
  local len = ffi.new('int32_t[?]', math.max(1, #lengths), lengths)
  local num = next(numbers) and ffi.new('double[?]', count) or nil
  local outs = {}
  for i = 1, #row.outs do
    outs[i] = H()
    c.out[i - 1] = outs[i]
  end
  local list_ptr = ffi.new('const vestige_tensor *[?]', math.max(1, count))
  for i = 1, count do
    if tensors[i] then list_ptr[i - 1] = tensors[i] end
    if numbers[i] then num[i - 1] = numbers[i] end
  end
  c['in'], c.num, c.len, c.opt = list_ptr, num, len, o
  local status = run(row, c, generator)
  if status < 0 and retry(status) then status = run(row, c, generator) end
  if status < 0 then raise('%s', ffi.string(C.vestige_message())) end
  if status > 0 then
    for i = 1, #outs do
      if outs[i]._owner >= 0x80000000 then handle.adopt(outs[i]) end
    end
    if status == 2 then handle.collect() end
  end
  if requires_grad then base.check(C.vestige_requires_grad(outs[1], 1)) end
  if #outs == 1 then return outs[1] end
  if #outs == 0 then return args[1] end
  return unpack(outs, 1, #outs)
end

-- ---- Generated functions: each operator has its own code, so its own traces. ----
local unary = [[
local op, C, H, istype, finish, retry, general, row = ...
return function(a, ...)
  if not istype(H, a) or select('#', ...) > 0 then return general(row, a, ...) end
  local r = H()
  local s = C.vestige_run1(op, r, a)
  if s ~= 0 then
    if s < 0 and retry(s) then s = C.vestige_run1(op, r, a) end
    finish(s, r)
  end
  return r
end]]

local binary = [[
local op, C, H, istype, finish, retry, general, row = ...
return function(a, b, ...)
  if select('#', ...) > 0 then return general(row, a, b, ...) end
  local r, s = H(), 0
  if istype(H, a) then
    if istype(H, b) then
      s = C.vestige_run2(op, r, a, b)
      if s < 0 and retry(s) then s = C.vestige_run2(op, r, a, b) end
    elseif NUMBER_B and type(b) == 'number' then
      s = C.vestige_run2n(op, r, a, b)
      if s < 0 and retry(s) then s = C.vestige_run2n(op, r, a, b) end
    else
      return general(row, a, b)
    end
  elseif NUMBER_A and type(a) == 'number' and istype(H, b) then
    s = C.vestige_runn2(op, r, a, b)
    if s < 0 and retry(s) then s = C.vestige_runn2(op, r, a, b) end
  else
    return general(row, a, b)
  end
  if s ~= 0 then finish(s, r) end
  return r
end]]

local any = [[
local op, C, H, istype, finish, retry, general, row = ...
return function(...) return general(row, ...) end]]

--- The Lua function of a row.
function M.compile(row)
  local plain = #row.outs == 1 and not row.random
  for _, p in ipairs(row.ins) do
    if p.kind == 'list' or p.optional then plain = false end
  end
  local text = any
  if plain and #row.ins == 1 then
    text = unary
  elseif plain and #row.ins == 2 then
    text = binary:gsub('NUMBER_A', tostring(row.ins[1].number))
                 :gsub('NUMBER_B', tostring(row.ins[2].number))
  end
  local chunk = assert(loadstring(text, '=vestige.' .. row.name))
  return chunk(row.op, C, H, ffi.istype, finish, retry, M.general, row)
end

return M
