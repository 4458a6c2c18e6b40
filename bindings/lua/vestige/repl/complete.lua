--- Completion by Tab: globals, fields, methods, option names in a call's table, keywords, and
-- module names in the string after require and reload.
--
-- Nothing of the user's is run: fields are read raw, metatables only where __index is a table.
-- Values whose fields come from a function (tensors) are told by a hook: register() here, or a
-- function vestige.complete(object, prefix) that gives a list of names.
local lex = require 'vestige.repl.lex'
local help = require 'vestige.help'

local M = {}

local hooks = {}

--- Adds a hook for values whose fields are not in a table. `names(value)` gives the list of names
-- of a value's fields and methods, or nil for a value that is not its kind; `field(value, name)`,
-- optional, gives a field so that completion can go on behind it. Neither may have effects.
--
-- > local complete = require 'vestige.repl.complete'
-- > complete.register(function(v) return v == print and {'sum', 'mean'} or nil end)
-- > assert(complete.tab('print.me') == 'an')
function M.register(names, field)
  table.insert(hooks, 1, { names = names, field = field })
end

local absent = {} -- stands for a value that cannot be known without running code

local function field(value, name)
  for _, hook in ipairs(hooks) do
    if hook.field then
      local ok, found = pcall(hook.field, value, name)
      if ok and found ~= nil then return found end
    end
  end
  for _ = 1, 20 do
    if type(value) == 'table' then
      local found = rawget(value, name)
      if found ~= nil then return found end
    end
    local meta = debug.getmetatable(value)
    local index = type(meta) == 'table' and rawget(meta, '__index')
    if type(index) ~= 'table' then return absent end
    value = index
  end
  return absent
end

local callable = { ['function'] = true, table = true, cdata = true }

-- Names of the files of a module's folder: the modules that it loads when they are named.
local function submodules(value, add)
  local show = require 'vestige.repl.show'
  local name = show.module_name(value)
  if not name or not name:find('^vestige') then return end
  for template in package.path:gmatch('[^;]+') do
    local folder = template:match('^(.*)/%?%.lua$')
    local inside = folder and folder .. '/' .. name:gsub('%.', '/')
    for _, entry in ipairs(inside and require('vestige.host').list(inside) or {}) do
      local found = entry:match('^(%l[%w_]*)%.lua$') or entry:match('^(%l[%w_]*)$')
      if found and found ~= 'init' then add(found) end
    end
  end
end

-- Adds the names of value's fields that begin with prefix; only callable ones for a method.
local function field_names(value, prefix, method, add)
  local origin = value
  if type(value) == 'table' and not method then submodules(value, add) end
  for _ = 1, 20 do
    if type(value) == 'table' then
      for key, found in next, value do
        if type(key) == 'string' and key:find('^[%a_][%w_]*$') then
          if not method or callable[type(found)] then add(key) end
        end
      end
    end
    local meta = debug.getmetatable(value)
    value = type(meta) == 'table' and rawget(meta, '__index')
    if type(value) ~= 'table' then break end
  end
  for _, hook in ipairs(hooks) do
    local ok, names = pcall(hook.names, origin, prefix)
    if ok and type(names) == 'table' then
      for _, name in ipairs(names) do add(name) end
      break
    end
  end
  local vestige = package.loaded['vestige']
  local hook = type(vestige) == 'table' and rawget(vestige, 'complete')
  if type(hook) == 'function' then
    local ok, names = pcall(hook, origin, prefix)
    if ok and type(names) == 'table' then
      for _, name in ipairs(names) do add(name) end
    end
  end
end

local function global(name)
  local found = rawget(_G, name)
  if found == nil then return absent end
  return found
end

-- The value of the expression that ends at token `last`: a chain of names and constant keys from a
-- global, a string, or require 'x'; `absent` for anything that would have to be run. Also gives
-- the index of the chain's first token.
local function chain_value(tokens, last)
  local token = tokens[last]
  if not token then return absent, last end
  local before = tokens[last - 1]
  if token.kind == 'string' and not token.open then
    if before and before.kind == 'name' and before.text == 'require' then
      local module = package.loaded[token.text]
      return module == nil and absent or module, last - 1
    end
    return token.text, last
  end
  if token.text == ')' and tokens[last - 1] and tokens[last - 1].kind == 'string' and
      tokens[last - 2] and tokens[last - 2].text == '(' then
    local callee = tokens[last - 3]
    if callee and callee.text == 'require' then
      local module = package.loaded[tokens[last - 1].text]
      return module == nil and absent or module, last - 3
    elseif not callee or callee.kind ~= 'name' then
      return tokens[last - 1].text, last - 2
    end
  end
  if token.text == ']' and tokens[last - 2] and tokens[last - 2].text == '[' then
    local key, owner, first = tokens[last - 1], chain_value(tokens, last - 3)
    if owner == absent then return absent, first end
    if key.kind == 'string' then return field(owner, key.text), first end
    if key.kind == 'number' then return field(owner, tonumber(key.text)), first end
    return absent, first
  end
  if token.kind ~= 'name' then return absent, last end
  if before and (before.text == '.' or before.text == ':') then
    local owner, first = chain_value(tokens, last - 2)
    if owner == absent then return absent, first end
    return field(owner, token.text), first
  end
  return global(token.text), last
end

-- The index of the bracket that is open at token `last`, and whether a comma or the bracket itself
-- stands directly before a name there.
local function open_bracket(tokens, last)
  local depth = 0
  for i = last, 1, -1 do
    local text = tokens[i].kind == 'mark' and tokens[i].text
    if text == ')' or text == '}' or text == ']' then
      depth = depth + 1
    elseif text == '(' or text == '{' or text == '[' then
      if depth == 0 then return i end
      depth = depth - 1
    end
  end
end

-- The names of options if the cursor is where an option is named in the table of a call.
local function option_names(tokens, last, prefix, add)
  local before = tokens[last]
  if not before or not before.text:find('^[{,;]$') then return end
  local brace = open_bracket(tokens, last)
  if not brace or tokens[brace].text ~= '{' then return end
  local callee = brace - 1
  if not tokens[callee] then return end
  if tokens[callee].text == '(' or tokens[callee].text == ',' then
    local paren = open_bracket(tokens, callee)
    if not paren or tokens[paren].text ~= '(' then return end
    callee = paren - 1
  end
  local name = tokens[callee]
  if not name or name.kind ~= 'name' then return end
  local value = chain_value(tokens, callee)
  if value == absent then value = nil end
  if type(value) == 'table' and help.doc(value) == nil then
    local meta = debug.getmetatable(value)
    local call = type(meta) == 'table' and rawget(meta, '__call')
    value = rawget(value, '__init') or rawget(value, 'new') or call or value
  end
  local used = {}
  for i = brace + 1, #tokens - 1 do
    if tokens[i + 1].text == '=' then used[tokens[i].text] = true end
  end
  for _, option in ipairs(help.options(value, name.text)) do
    if not used[option] and option:sub(1, #prefix) == prefix then add(option, ' = ') end
  end
end

local function module_names(add)
  for name in next, package.loaded do
    if type(name) == 'string' then add(name, "'") end
  end
end

-- Locals and parameters named anywhere in the lines still pending.
local function names_in_text(tokens, add)
  for i = 1, #tokens - 1 do
    if tokens[i].kind == 'name' and (not tokens[i - 1] or tokens[i - 1].text ~= '.') then
      add(tokens[i].text)
    end
  end
end

local function commands(line, add)
  for _, name in ipairs { 'help', 'quit', 'save' } do
    local word = ':' .. name
    if word:sub(1, #line) == line then add(name, name == 'save' and ' ' or '') end
  end
end

local function common_prefix(list)
  local first = list[1]
  local length = #first
  for i = 2, #list do
    while list[i]:sub(1, length) ~= first:sub(1, length) do length = length - 1 end
  end
  return first:sub(1, length)
end

--- What Tab does with `text`, the chunk up to the cursor: the string to insert, and the list of
-- names to show when several remain. Both may be nil.
--
-- > local complete = require 'vestige.repl.complete'
-- > assert(complete.tab('string.form') == 'at')
function M.tab(text)
  local line = text:match('[^\n]*$')
  if not line:find('%S') then return '  ' end
  local found, tails = {}, {}
  local prefix
  local function add(name, tail)
    if name:sub(1, #prefix) == prefix and tails[name] == nil then
      found[#found + 1] = name
      tails[name] = tail or ''
    end
  end

  if text:find('^:%a*$') then
    prefix = text:sub(2)
    commands(text, add)
  else
    local tokens = lex.tokens(text:find('^%?') and ' ' .. text:sub(2) or text)
    local count = #tokens
    local last = tokens[count]
    if not last then return nil end
    if last.open and last.kind == 'comment' then return nil end
    if last.open then
      local callee = tokens[count - 1]
      if callee and callee.text == '(' then callee = tokens[count - 2] end
      if not callee or (callee.text ~= 'reload' and callee.text ~= 'require') then return nil end
      prefix = last.text
      module_names(add)
    else
      local word = (last.kind == 'name' or last.kind == 'keyword') and last.last == #text and last
      prefix = word and word.text or ''
      local at = word and count - 1 or count
      local dot = tokens[at]
      if dot and (dot.text == '.' or dot.text == ':') then
        local owner = chain_value(tokens, at - 1)
        if owner == absent then return nil end
        field_names(owner, prefix, dot.text == ':', add)
      else
        option_names(tokens, at, prefix, add)
        if #found == 0 and prefix ~= '' then
          for name in next, _G do
            if type(name) == 'string' then add(name) end
          end
          for word_name in next, lex.keywords do add(word_name) end
          for _, name in ipairs(require('vestige.program').global_names()) do add(name) end
          names_in_text(tokens, add)
        end
      end
    end
  end
  if #found == 0 then return nil end
  if prefix:sub(1, 1) ~= '_' and #found > 1 then -- private names only when asked for
    local open = {}
    for _, name in ipairs(found) do
      if name:sub(1, 1) ~= '_' then open[#open + 1] = name end
    end
    if #open > 0 then found = open end
  end
  table.sort(found)
  if #found == 1 then return found[1]:sub(#prefix + 1) .. tails[found[1]] end
  local more = common_prefix(found):sub(#prefix + 1)
  if more ~= '' then return more end
  return nil, found
end

return M
