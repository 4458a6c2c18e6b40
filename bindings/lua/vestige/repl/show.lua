--- Values as text, for people: what the prompt prints after an expression.
--
-- Tables are shown with their list first, then their other keys sorted, on one line if they fit
-- and indented otherwise; depth, entries and long strings are limited, cycles are told, a loaded
-- module is only named (help lists what is in it). A value whose metatable has __tostring is shown
-- by it. register() adds a way to show a kind of value.
local M = {}

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch('%a+') do reserved[word] = true end

local printers = {}

--- Adds a printer: `print_value(value, nested)` gives the text of a value for which
-- `matches(value)` is true; nested is true inside a table, where one line is best. The printer
-- added last is asked first.
--
-- > local show = require 'vestige.repl.show'
-- > show.register(function(v) return v == print end, function() return '<print>' end)
-- > assert(show.text({print}) == '{<print>}')
function M.register(matches, print_value)
  table.insert(printers, 1, { matches = matches, print = print_value })
end

local escapes = { ['\n'] = '\\n', ['\t'] = '\\t', ['\r'] = '\\r', ['\\'] = '\\\\' }

--- A string in quotes, with what cannot be printed escaped.
function M.quote(s, limit)
  local rest = limit and #s > limit and #s - limit
  if rest then s = s:sub(1, limit) end
  local mark = (s:find("'", 1, true) and not s:find('"', 1, true)) and '"' or "'"
  s = s:gsub('[%c\\\127]', function(c)
    return escapes[c] or ('\\%03d'):format(c:byte())
  end)
  if mark == "'" then s = s:gsub("'", "\\'") end
  return mark .. s .. mark .. (rest and (' ... %d more bytes'):format(rest) or '')
end

local function key_order(a, b)
  local ta, tb = type(a), type(b)
  if ta == tb and (ta == 'number' or ta == 'string') then return a < b end
  if ta ~= tb then return ta < tb end
  return tostring(a) < tostring(b)
end

--- Name of the loaded module that `value` is, or nil.
function M.module_name(value)
  for name, module in next, package.loaded do
    if rawequal(module, value) and name ~= '_G' then return name end
  end
end

local function custom(value, nested)
  for _, printer in ipairs(printers) do
    local ok, yes = pcall(printer.matches, value)
    if ok and yes then
      local fine, text = pcall(printer.print, value, nested)
      if fine and type(text) == 'string' then return text end
    end
  end
end

local function by_tostring(value)
  local ok, text = pcall(tostring, value)
  if ok and type(text) == 'string' then return text end
  return ('<%s whose __tostring fails: %s>'):format(type(value), tostring(text))
end

local function function_text(f)
  local info = debug.getinfo(f, 'S')
  if info.what == 'C' then return (tostring(f):gsub('builtin#%d+', 'built in')) end
  return ('function (%s:%d)'):format(info.short_src, info.linedefined)
end

local one_value

local function entries(t, state, depth)
  local out, count, shown = {}, 0, state.entries
  local length = 0
  while rawget(t, length + 1) ~= nil do length = length + 1 end
  for i = 1, math.min(length, shown) do out[i] = one_value(rawget(t, i), state, depth + 1) end
  local keys = {}
  for key in next, t do
    local listed = type(key) == 'number' and key >= 1 and key <= length and key % 1 == 0
    if not listed then keys[#keys + 1] = key end
    count = count + 1
  end
  table.sort(keys, key_order)
  for _, key in ipairs(keys) do
    if #out >= shown then break end
    local name
    if type(key) == 'string' and key:find('^[%a_][%w_]*$') and not reserved[key] then
      name = key
    else
      name = '[' .. one_value(key, state, depth + 1) .. ']'
    end
    out[#out + 1] = name .. ' = ' .. one_value(rawget(t, key), state, depth + 1)
  end
  if count > #out then out[#out + 1] = ('... %d more'):format(count - #out) end
  return out
end

local function table_text(t, state, depth)
  if state.open[t] then return '<the same table, ' .. state.open[t] .. ' up>' end
  local module = M.module_name(t)
  if module then return '<module ' .. module .. '>' end
  if next(t) == nil then return '{}' end
  if depth >= state.depth then return '{...}' end
  for above, distance in next, state.open do state.open[above] = distance + 1 end
  state.open[t] = 1
  local parts = entries(t, state, depth)
  state.open[t] = nil
  for above, distance in next, state.open do state.open[above] = distance - 1 end
  local line = table.concat(parts, ', ')
  if #line + 2 * depth + 2 <= state.width and not line:find('\n', 1, true) then
    return '{' .. line .. '}'
  end
  local pad = '\n' .. ('  '):rep(depth + 1)
  local simple = true
  for i, part in ipairs(parts) do simple = simple and #part <= 12 and i > 0 end
  if simple then -- a long list of short values: as many on a line as fit
    local lines, row = {}, ''
    for i, part in ipairs(parts) do
      local item = part .. (i < #parts and ',' or '')
      if row ~= '' and #row + #item + 1 + 2 * depth + 2 > state.width then
        lines[#lines + 1], row = row, ''
      end
      row = row == '' and item or row .. ' ' .. item
    end
    lines[#lines + 1] = row
    return '{' .. pad .. table.concat(lines, pad) .. '\n' .. ('  '):rep(depth) .. '}'
  end
  return '{' .. pad .. table.concat(parts, ',' .. pad) .. '\n' .. ('  '):rep(depth) .. '}'
end

function one_value(value, state, depth)
  local kind = type(value)
  if kind == 'string' then return M.quote(value, depth == 0 and 20000 or 200) end
  if kind == 'nil' or kind == 'boolean' or kind == 'number' then return tostring(value) end
  local text = custom(value, depth > 0)
  if not text then
    local meta = debug.getmetatable(value)
    local told = type(meta) == 'table' and rawget(meta, '__tostring')
    if kind == 'table' and not told then return table_text(value, state, depth) end
    text = kind == 'function' and function_text(value) or by_tostring(value)
  end
  if depth > 0 then text = text:gsub('\n', '\n' .. ('  '):rep(depth)) end
  return text
end

--- The text of any value. Options: depth=4 levels of tables, entries=100 of each table, width=
-- columns of the terminal.
--
-- > local show = require 'vestige.repl.show'
-- > assert(show.text({1, 2, name = 'x'}) == "{1, 2, name = 'x'}")
function M.text(value, options)
  options = options or {}
  local width = options.width
  if not width then
    local ok, host = pcall(require, 'vestige.host')
    width = ok and host.columns() or 80
  end
  local state = {
    depth = options.depth or 4, entries = options.entries or 100, width = width, open = {},
  }
  return one_value(value, state, 0)
end

return M
