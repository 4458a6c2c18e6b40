--- Calls of operators: what a row says of its arguments, and how they are read.
-- general() reads a call in any form that is allowed and explains the others; compile.lua writes
-- the operators' functions, which come here with whatever is not plain.
local ffi = require 'ffi'
local bit = require 'bit'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local converters = require 'vestige.convert'
local nearest = require 'vestige.nearest'
local C, H, raise = base.C, base.H, base.raise
local convert, text = converters.convert, converters.text

local M = {}

local kinds = { [0] = 'tensor', 'list', 'int', 'int2', 'ints', 'dim', 'dims', 'position', 'size',
                'float', 'bool', 'enum', 'dtype' }

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
local function read_places(row, input_text)
  row.placed, row.placed_names, row.positional = {}, {}, {}
  local input = 1
  for word in (input_text ~= nil and ffi.string(input_text) or ''):gmatch '%S+' do
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
  local doc = r.doc ~= nil and ffi.string(r.doc) or ''
  local row = { op = op, name = ffi.string(r.name), doc = doc, nslot = r.nslot,
                presets = r.presets, ins = {}, outs = {}, options = {}, by_name = {},
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

local Stream = ffi.typeof 'vestige_stream'
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
          if key == 'device' then
            device = value
          elseif type(value) == 'boolean' then
            requires_grad = value
          else
            raise(('%s: option requires_grad: expected true or false, got %s'):format(row.name,
                  text(value)))
          end
        elseif row.random and key == 'generator' then
          if type(value) ~= 'table' or not ffi.istype(Stream, value.stream) then
            raise(('%s: option generator: expected a vestige.generator, got %s'):format(row.name,
                  text(value)))
          end
          generator = value
        else
          unknown_option(row, key)
        end
      end
    else
      local p = row.positional[position]
      if not p then
        raise(('%s: too many arguments: got %s'):format(row.name, text(v)))
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
local watched -- while a checkpoint's forward runs: generators, and where they stood before

local function run(c, generator)
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

-- ---- Calls ----
local Call, Doubles = ffi.typeof 'vestige_call', ffi.typeof 'double[?]'
local Ints = ffi.typeof 'int32_t[?]'
local Pointers = ffi.typeof 'const vestige_tensor *[?]'

-- The arguments without the nils at their end.
local function pack(...)
  local args, n = { ... }, select('#', ...)
  while n > 0 and args[n] == nil do n = n - 1 end
  return args, n
end

-- The engine's call, in memory of its own. Its arrays are filled last: they point at handles, and
-- no collection may come between.
local function make_call(row, count, tensors, numbers, lengths, outs)
  local c, list = Call(), Pointers(math.max(1, count))
  c.op, c.nin, c['in'] = row.op, count, list
  local len = Ints(math.max(1, #lengths), lengths)
  local num = next(numbers) and Doubles(count) or nil
  for i = 1, #row.outs do
    outs[i] = H()
    c.out[i - 1] = outs[i]
  end
  for i = 1, count do
    if tensors[i] then list[i - 1] = tensors[i] end
    if numbers[i] then num[i - 1] = numbers[i] end
  end
  c.num, c.len = num, len
  return c, { list, num, len } -- what c points at
end

--- Runs a row on arguments as the user gave them, whatever their form.
function M.general(row, ...)
  local args, n = pack(...)
  local tensors, numbers, lengths, outs = {}, {}, {}, {}
  local count, at, between = read_inputs(row, args, tensors, numbers, lengths)
  local o = Doubles(row.nslot + 1)
  ffi.copy(o, row.presets, row.nslot * 8)
  local device, requires_grad, generator = read_options(row, args, at, n, o)
  for name, v in pairs(between or {}) do
    local p = row.by_name[name]
    convert[p.kind](row, p, o, v)
  end
  local c, held = make_call(row, count, tensors, numbers, lengths, outs)
  c.opt = row.nslot > 0 and o or nil
  c.device = device and converters.device_number(device) or 0
  local status = run(c, generator)
  if status < 0 and handle.retry(status) then status = run(c, generator) end
  handle.finish_all(status, outs, held)
  if requires_grad then base.check(C.vestige_requires_grad(outs[1], 1)) end
  if #outs == 0 then return args[1] end
  return unpack(outs, 1, #outs)
end

return M
