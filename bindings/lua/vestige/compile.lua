--- The Lua function of an operator, written for its row: each operator has its own code and so its
-- own traces, and the arguments go into arrays that are there already.
--
-- The written function handles plain calls: tensors and numbers where the row has them, options by
-- place, and a table of options at the end. Whatever else it is given, and every failure, goes to
-- call.general(), which tells what is wrong. For x:float w:float? stride:int2=1 it reads
--   return function(a1, a2, o1, ...)
--     if select('#', ...) > 0 then return general(row, a1, a2, o1, ...) end
--     local r1 = H()
--     if type(a2) == 'table' and o1 == nil then a2, o1 = nil, a2 end
--     if not istype(H, a1) then return general(...) end ...
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local call = require 'vestige.call'
local convert = require 'vestige.convert'
local C, H = base.C, base.H

local M = {}

-- What all functions share. Nothing is called between filling these and the engine's reading them.
local MOST = 4096 -- inputs of one call, those in lists included; general() takes more
local vcall = ffi.new 'vestige_call'
local pointers = ffi.new(('const vestige_tensor *[%d]'):format(MOST))
local numbers = ffi.new 'double[16]'
local slots = ffi.new 'double[64]'
local lengths = ffi.new 'int32_t[16]'

local head = [[
local C, H, row, general, finish, retry, again, adopt_all, shared, convert, put = ...
local istype, copy, select, type, next = shared.istype, shared.copy, select, type, next
local call, ptr, num, slots, len, take = shared.call, shared.pointers, shared.numbers,
                                         shared.slots, shared.lengths, shared.take
local presets = row.presets
]]

-- Tensors alone, one or two: the engine's short ways. They fall through when options are given.
local unary = [[
  if $none and istype(H, a1) then
    local s = C.vestige_run1($op, r1, a1)
    if s ~= 0 then
      if s < 0 and retry(s) then s = C.vestige_run1($op, r1, a1) end
      finish(s, r1)
    end
    return r1
  end]]

local binary = [[
  if $none then
    local s = 0
    if istype(H, a1) then
      if istype(H, a2) then
        s = C.vestige_run2($op, r1, a1, a2)
      elseif $number2 and type(a2) == 'number' then
        s = C.vestige_run2n($op, r1, a1, a2)
      else
        return general(row, $given)
      end
    elseif $number1 and type(a1) == 'number' and istype(H, a2) then
      s = C.vestige_runn2($op, r1, a1, a2)
    else
      return general(row, $given)
    end
    if s ~= 0 then
      if s < 0 then return again(s, row, $given) end
      finish(s, r1)
    end
    return r1
  end]]

local function substitute(text, values)
  return (text:gsub('%${?(%w+)}?', function(name) return tostring(values[name]) end))
end

-- The function that reads a table of options; false when there is a name that it does not know.
local function named_options(row)
  local lines = { 'local function named(t)', '  local n, v = 0, nil' }
  for i, p in ipairs(row.options) do
    lines[#lines + 1] = substitute([[
  v = t['$name']
  if v ~= nil then
    n = n + 1
    convert.$kind(row, row.options[$i], slots, v)
  end]], { name = p.name, kind = p.kind, i = i })
  end
  lines[#lines + 1] = '  local k = next(t)'
  for i = 1, #row.options do
    lines[#lines + 1] = ('  if n >= %d then k = next(t, k) end'):format(i)
  end
  lines[#lines + 1] = '  return k == nil\nend'
  return lines
end

-- The parameters in the order of a call: inputs and the options that stand between them, then the
-- other options. Each is { text, p=, input= or option= }.
local function parameters(row)
  local list, place = {}, {}
  for i, p in ipairs(row.options) do place[p.name] = i end
  for i, p in ipairs(row.ins) do
    if row.placed[i] then
      list[#list + 1] = { 'p' .. i, p = row.by_name[row.placed[i]], option = place[row.placed[i]] }
    end
    list[#list + 1] = { 'a' .. i, p = p, input = i }
  end
  local last = row.numbers_first and math.max(#row.positional, 8) or #row.positional
  for i = 1, last do
    local p = row.positional[i]
    list[#list + 1] = { 'o' .. i, p = p, position = i, option = p and place[p.name] }
  end
  return list
end

local function names(list, from)
  local t = {}
  for i = from or 1, #list do t[#t + 1] = list[i][1] end
  return t
end

local function none_of(list)
  return #list == 0 and 'true' or table.concat(list, ' == nil and ') .. ' == nil'
end

local read = {}

function read.input(put, list, at, values)
  local p, v = list[at].p, list[at][1]
  local use = { v = v, i = values.lists and 'n' or list[at].input - 1, given = values.given }
  if p.kind == 'list' then
    use.k, use.absent = values.lists, p.optional and ('%s == nil'):format(v) or 'false'
    values.lists = values.lists + 1
    put(substitute([[
  from = n
  if type($v) == 'table' and ($v[1] ~= nil or next($v) == nil) then
    n = take($v, n)
  elseif not ($absent) then
    n = -1
  end
  if n < 0 then return general(row, $given) end
  len[$k] = n - from]], use))
    return
  end
  local text = '  if istype(H, $v) then ptr[$i] = $v'
  if p.number then text = text .. " elseif type($v) == 'number' then ptr[$i], num[$i] = nil, $v" end
  if p.optional then text = text .. ' elseif $v == nil then ptr[$i] = nil' end
  put(substitute(text .. ' else return general(row, $given) end', use))
  if values.lists then put '  n = n + 1' end
end

function read.placed(put, list, at, values)
  local use = { v = list[at][1], kind = list[at].p.kind, i = list[at].option, given = values.given }
  put(substitute("  if type($v) ~= 'number' then return general(row, $given) end\n" ..
                 '  convert.$kind(row, row.options[$i], slots, $v)', use))
end

function read.option(put, list, at, values)
  local use = { v = list[at][1], kind = list[at].p.kind, i = list[at].option, given = values.given,
                last = none_of(names(list, at + 1)), all = table.concat(names(list, at), ', ') }
  local numbers_first = list[at].position == 1 and values.numbers_first
  use.empty = numbers_first and ('next(%s) == nil or '):format(use.v) or '' -- a size of no numbers
  put(substitute("  if type($v) == 'table' and $v[1] == nil then\n" ..
                 '    if ${empty}not ($last) or not named($v) then return general(row, $given) end',
                 use))
  if numbers_first then
    put(substitute("  elseif type($v) == 'number' then\n" ..
                   '    if not put.$kind(row, row.options[$i], slots, $all) then ' ..
                   'return general(row, $given) end', use))
    local rest = names(list, at + 1)
    if #rest > 0 then put(('    %s = nil'):format(table.concat(rest, ', '))) end
    put(substitute('  elseif $v ~= nil then\n' ..
                   '    if not ($last) then return general(row, $given) end\n' ..
                   '    convert.$kind(row, row.options[$i], slots, $v)\n  end', use))
  else
    put(substitute('  elseif $v ~= nil then ' ..
                   'convert.$kind(row, row.options[$i], slots, $v) end', use))
  end
end

-- An optional tensor is left out, and the table that stands in its place is the options'.
local function shift_options(put, list, first)
  for at = 1, first - 1 do
    if list[at].input and list[at].p.optional and list[first] then
      put(substitute("  if type($v) == 'table' and $rest then $v, $o = nil, $v end",
                     { v = list[at][1], o = list[first][1], rest = none_of(names(list, at + 1)) }))
    end
  end
end

local function finishing(row, put, values)
  local results, outs = {}, {}
  for i = 1, #row.outs do
    results[i] = 'r' .. i
    outs[i] = ('call.out[%d]'):format(i - 1)
  end
  if #results > 0 then
    put('  ' .. table.concat(outs, ', ') .. ' = ' .. table.concat(results, ', '))
  end
  put(substitute("  call.op, call.nin, call['in'], call.num = $op, $nin, ptr, $num\n" ..
                 '  call.len, call.opt, call.device = $len, $slots, 0\n' ..
                 '  local s = C.vestige_run(call)\n' ..
                 '  if s < 0 then return again(s, row, $given) end', values))
  if #results == 0 then
    put('  return a1')
  else
    put(('  if s > 0 then adopt_all(s, %s) end'):format(table.concat(results, ', ')))
    put('  return ' .. table.concat(results, ', '))
  end
end

local function body(row)
  local lines = named_options(row)
  local function put(line) lines[#lines + 1] = line end
  local list = parameters(row)
  local all = names(list)
  local first = #list + 1 -- of the options by position
  for i = #list, 1, -1 do
    if list[i].position then first = i end
  end
  local comma = #all > 0 and ', ' or ''
  local values = { given = table.concat(all, ', '), op = row.op, nin = #row.ins,
                   none = none_of(names(list, first)), slots = row.nslot > 0 and 'slots' or 'nil',
                   num = 'nil', len = 'nil', numbers_first = row.numbers_first }
  if values.given == '' then values.given = 'nil' end
  for i, p in ipairs(row.ins) do
    values['number' .. i] = p.number
    if p.number then values.num = 'num' end
    if p.kind == 'list' then values.lists, values.nin, values.len = 0, 'n', 'len' end
  end
  put(('return function(%s%s...)'):format(table.concat(all, ', '), comma))
  put(("  if select('#', ...) > 0 then return general(row, %s%s...) end")
      :format(table.concat(all, ', '), comma))
  for i = 1, #row.outs do put(('  local r%d = H()'):format(i)) end -- before any pointer is kept
  shift_options(put, list, first)
  local tensors = #row.outs == 1 and not row.random and next(row.placed) == nil
  for _, p in ipairs(row.ins) do tensors = tensors and not p.optional and p.kind ~= 'list' end
  if tensors and #row.ins == 1 then put(substitute(unary, values)) end
  if tensors and #row.ins == 2 then put(substitute(binary, values)) end
  if row.nslot > 0 then put(('  copy(slots, presets, %d)'):format(row.nslot * 8)) end
  if values.lists then put '  local n, from = 0, 0' end
  for at = 1, #list do
    local kind = list[at].input and 'input' or not list[at].position and 'placed' or 'option'
    if list[at].p then read[kind](put, list, at, values) end
  end
  finishing(row, put, values)
  put 'end'
  return table.concat(lines, '\n')
end

-- ---- What the functions call ----
local function again(status, row, ...)
  if handle.retry(status) then return call.general(row, ...) end
  return handle.finish(status)
end

local function adopt_all(status, a, b, c, d)
  handle.adopt(a)
  if b ~= nil then handle.adopt(b) end
  if c ~= nil then handle.adopt(c) end
  if d ~= nil then handle.adopt(d) end
  if status == 2 then handle.collect() end
end

-- The tensors of a list as inputs from number n on: the number after them, or -1.
local function take(list, n)
  local count = #list
  if n + count > MOST then return -1 end
  for i = 1, count do
    local t = list[i]
    if not ffi.istype(H, t) then return -1 end
    pointers[n + i - 1] = t
  end
  return n + count
end

local shared = { istype = ffi.istype, copy = ffi.copy, call = vcall, pointers = pointers,
                 numbers = numbers, slots = slots, lengths = lengths, take = take }

--- The Lua function of a row.
function M.compile(row)
  local chunk = assert(loadstring(head .. body(row), '=vestige.' .. row.name))
  return chunk(C, H, row, call.general, handle.finish, handle.retry, again, adopt_all, shared,
               convert.convert, convert.put)
end

return M
