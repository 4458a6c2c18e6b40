--- help(x): the documentation of a function, an operator, a module, an attack.
--
-- For Lua code it is read from the source when it is asked for: the comment block that begins
-- with three dashes directly above a function's definition, and the block at the head of a
-- module's file. What has no such source (the engine's operators) is given by register().
-- At the prompt `?x` is the same as help(x), and x may also be a name in quotes.
local nearest = require 'vestige.nearest'
local trace = require 'vestige.repl.trace'

local M = {}

local given = setmetatable({}, { __mode = 'k' }) -- value -> {text=, name=, options=}
local by_name = {} -- name -> the same

--- Gives the documentation of a value whose source cannot be read. `text` is a string, or a
-- function that makes it when it is asked for. Options: name= under which help 'name' finds it,
-- options= the list of option names, which Tab completes inside the table of a call.
--
-- > local help = require 'vestige.help'
-- > help.register(math.sin, 'The sine of x radians.', {name = 'math.sin'})
-- > assert(help.text(math.sin):find('sine of x'))
function M.register(value, text, options)
  options = options or {}
  local entry = { text = text, name = options.name, options = options.options, value = value }
  if value ~= nil then given[value] = entry end
  if options.name then by_name[options.name] = entry end
end

-- The lines of the file or chunk with this debug source, kept for one answer.
local cache = {}
local function lines_of(source)
  if cache[source] then return cache[source] end
  local text = trace.sources[source]
  if not text and source:sub(1, 1) == '@' then
    local file = io.open(source:sub(2))
    if file then
      text = file:read('*a')
      file:close()
    end
  end
  if not text then return nil end
  local lines = {}
  for line in (text:gsub('\r', '') .. '\n'):gmatch('(.-)\n') do lines[#lines + 1] = line end
  cache[source] = lines
  return lines
end

local function strip(line)
  return (line:gsub('^%s*%-%-%-?%s?', ''))
end

-- The block above line `defined`, without its dashes; nil unless it begins with three.
local function block_above(lines, defined)
  local first = defined
  while first > 1 and lines[first - 1]:find('^%s*%-%-') do first = first - 1 end
  while first < defined and not lines[first]:find('^%s*%-%-%-') do first = first + 1 end
  if first >= defined then return nil end
  local out = {}
  for i = first, defined - 1 do out[#out + 1] = strip(lines[i]) end
  return table.concat(out, '\n')
end

-- The block at the head of a file, after a shebang line.
local function block_at_head(lines)
  local i = 1
  while lines[i] and (lines[i]:find('^#!') or not lines[i]:find('%S')) do i = i + 1 end
  local out = {}
  while lines[i] and lines[i]:find('^%s*%-%-') and not lines[i]:find('^%s*%-%-%[') do
    out[#out + 1] = strip(lines[i])
    i = i + 1
  end
  return #out > 0 and table.concat(out, '\n') or nil
end

local function entry_text(entry)
  local text = entry.text
  if type(text) == 'function' then
    local ok, made = pcall(text, entry.value)
    text = ok and made or 'the documentation cannot be made: ' .. tostring(made)
  end
  return tostring(text)
end

--- The documentation of a function as written above it or registered, or nil.
function M.doc(f)
  if f ~= nil and given[f] then return entry_text(given[f]) end
  if type(f) ~= 'function' then return nil end
  local info = debug.getinfo(f, 'S')
  local lines = info.what ~= 'C' and lines_of(info.source)
  return lines and block_above(lines, math.min(info.linedefined, #lines + 1)) or nil
end

-- The documentation of a class: it says where it was made, and its text stands above.
local function class_doc(t)
  local made = type(t) == 'table' and rawget(t, '_made')
  local lines = made and lines_of(made.source)
  return lines and block_above(lines, math.min(made.line, #lines + 1)) or nil
end

local function first_sentence(text)
  text = text:match('^%s*(.-)\n%s*\n') or text
  text = text:gsub('^%s*[%w_.:]+%b(): (.)', string.upper):gsub('%s+', ' '):gsub('^ ', '')
  return (text:match('^(.-[%.!?;]) ') or text):gsub('[:;]$', '.')
end

-- Names that a value has in the loaded modules and the globals: the shortest, then the first.
local function name_of(value)
  local best
  local function offer(name)
    if not best or #name < #best or (#name == #best and name < best) then best = name end
  end
  for module, content in next, package.loaded do
    if type(content) == 'table' and type(module) == 'string' then
      for key, field in next, content do
        if rawequal(field, value) and type(key) == 'string' then
          offer(module == '_G' and key or module .. '.' .. key)
        end
      end
    end
  end
  return best
end

local function signature(f)
  local info = debug.getinfo(f, 'u')
  local names = {}
  for i = 1, info.nparams do names[i] = debug.getlocal(f, i) or '_' end
  if info.isvararg then names[#names + 1] = '...' end
  return table.concat(names, ', ')
end

-- The rows of the engine's operators, if it is there: name -> row. A row has name, doc, the lists
-- ins, outs and options of {name=, type=, preset=, optional=}.
local function operator_rows()
  local vestige = package.loaded['vestige']
  local ops = type(vestige) == 'table' and rawget(vestige, 'ops')
  local rows = {}
  local ok, list = pcall(ops or error)
  if ok and type(list) == 'table' then
    for _, row in ipairs(list) do
      if not row.hidden then rows[row.name] = row end
    end
  end
  return rows
end

-- The row whose function in the engine is `f`.
local function row_of(f)
  local vestige = package.loaded['vestige']
  local op_of = type(vestige) == 'table' and rawget(vestige, 'op_of')
  local ok, row = pcall(op_of or error, f)
  return ok and type(row) == 'table' and row or nil
end

local function row_text(row)
  local args, kinds, results = {}, {}, {}
  for i, p in ipairs(row.ins or {}) do
    args[i] = p.name .. (p.optional and '?' or '')
    kinds[i] = ('%s: %s'):format(p.name, p.type)
  end
  local presets = {}
  for i, p in ipairs(row.options or {}) do
    local preset = p.preset or ''
    if p.type == 'dtype' and preset == '0' then preset = 'f32' end
    if i == 1 and row.numbers_first then
      args[#args + 1] = p.name
    else
      presets[#presets + 1] = preset ~= '' and ('%s=%s'):format(p.name, preset) or p.name
    end
    kinds[#kinds + 1] = ('%s: %s'):format(p.name, p.type)
  end
  if #presets > 0 then args[#args + 1] = '{' .. table.concat(presets, ', ') .. '}' end
  for i, p in ipairs(row.outs or {}) do results[i] = p.name end
  return ('%s(%s)%s   operator\n\n  %s\n\n  %s'):format(row.name, table.concat(args, ', '),
    #results > 0 and ' -> ' .. table.concat(results, ', ') or '',
    (tostring(row.doc or ''):gsub('\n', '\n  ')), table.concat(kinds, '\n  '))
end

-- Names of the options of a row: its own, and those that every row of its kind has.
local function row_options(row)
  local out = {}
  for i, p in ipairs(row.options or {}) do out[i] = p.name end
  if row.creates then
    out[#out + 1] = 'device'
    out[#out + 1] = 'requires_grad'
  end
  if row.random then out[#out + 1] = 'generator' end
  return out
end

local function function_help(f)
  local info = debug.getinfo(f, 'S')
  local name, doc = name_of(f), M.doc(f)
  local row = not doc and row_of(f)
  if row then return row_text(row) end
  if info.what == 'C' then
    return ('%s\n\n  %s'):format(name or tostring(f),
      doc or 'Built into LuaJIT: see the manual of Lua 5.1 and LuaJIT\'s page of extensions.')
  end
  if not name and doc then name = doc:match('^([%w_.:]+)%b()') end
  local head = ('%s(%s)   %s:%d'):format(name or 'function', signature(f), info.short_src,
    info.linedefined)
  return head .. '\n\n' .. ((doc or 'It has no documentation.'):gsub('([^\n]+)', '  %1'))
end

-- Functions and modules in a table, a line each with the first sentence about it.
local function listing(t, prefix)
  local names, widest = {}, 0
  for key, value in next, t do
    local callable = type(value) == 'function' or given[value] ~= nil
      or type(value) == 'table' and rawget(value, '_made')
    if type(key) == 'string' and not key:find('^_') and callable then
      names[#names + 1] = key
      widest = math.max(widest, #key)
    end
  end
  table.sort(names)
  local out = {}
  for _, key in ipairs(names) do
    local doc = M.doc(t[key]) or class_doc(t[key])
    if not doc then
      local row = row_of(t[key])
      doc = row and row.doc
    end
    out[#out + 1] = ('  %s%-' .. widest .. 's  %s'):format(prefix, key,
      doc and first_sentence(doc) or ''):gsub('%s+$', '')
  end
  return out
end

local function module_of(t)
  local best
  for name, content in next, package.loaded do
    if rawequal(content, t) and type(name) == 'string' and (not best or #name > #best) then
      best = name
    end
  end
  return best
end

-- The lines of a plug-in's table of defaults, with what is written beside each option.
local function written_defaults(lines)
  for first, line in ipairs(lines) do
    if line:find '%f[%w_]defaults = {' then
      local out, open = {}, 0
      for i = first, #lines do
        local text = i == first and line:match 'defaults = {.*' or lines[i]
        local code = text:gsub('%-%-.*', '')
        open = open + select(2, code:gsub('{', '')) - select(2, code:gsub('}', ''))
        out[#out + 1] = '  ' .. (i == first and text or text:gsub('^  ', ''))
        if open <= 0 then return out end
      end
    end
  end
  return {}
end

local function file_help(name, path, content)
  local lines = lines_of('@' .. path)
  local head = lines and block_at_head(lines)
  local out = { ('module %s   %s'):format(name, path), '' }
  out[#out + 1] = ((head or 'It has no documentation.'):gsub('([^\n]+)', '  %1'))
  local listed = type(content) == 'table' and listing(content, name:match('[^.]*$') .. '.') or {}
  local options = type(content) == 'table' and content.defaults and written_defaults(lines) or {}
  for _, block in ipairs { listed, options } do
    if #block > 0 then
      out[#out + 1] = ''
      for _, line in ipairs(block) do out[#out + 1] = line end
    end
  end
  return table.concat(out, '\n')
end

-- A table that is no module of a file: its class's constructor and its functions.
local function table_help(t)
  local name = module_of(t) or name_of(t)
  local meta = debug.getmetatable(t)
  local class = type(meta) == 'table' and rawget(meta, '__index')
  local out = { name or 'a table' }
  local call = type(meta) == 'table' and rawget(meta, '__call')
  local doc = class_doc(t)
  for _, maker in ipairs { rawget(t, '__init'), rawget(t, 'new'), call } do
    doc = doc or maker and M.doc(maker)
  end
  if doc then
    out[#out + 1] = ''
    out[#out + 1] = (doc:gsub('([^\n]+)', '  %1'))
  end
  local functions = listing(t, '')
  if #functions == 0 and type(class) == 'table' then functions = listing(class, ':') end
  if #functions > 0 then
    out[#out + 1] = ''
    for _, line in ipairs(functions) do out[#out + 1] = line end
  end
  return table.concat(out, '\n')
end

-- Names in a documentation's text: every `name=`, and the list after "options:" up to the next
-- heading, without what stands in brackets: "options: bins (40), height (8), title."
local function written_options(doc)
  local seen, out = {}, {}
  local function add(option)
    if option and not seen[option] then
      seen[option] = true
      out[#out + 1] = option
    end
  end
  local listed
  for line in (doc .. '\n'):gmatch('(.-)\n') do
    if not line:find('^%s*>') then
      for option in (' ' .. line):gmatch('[^%w_.]([%a_][%w_]*) ?=%f[^=]') do add(option) end
    end
    local rest = line:match('^%s*[Oo]ptions: *(.*)')
    if rest then
      listed = rest
    elseif listed and line:find('^%s*%l') then
      listed = listed .. ' ' .. line
    else
      for item in ((listed or ''):gsub('%b()', '') .. ','):gmatch('%s*([^,;.:]*)[,;.:]') do
        add(item:match('^([%a_][%w_]*)%s*$'))
      end
      listed = nil
    end
  end
  return out
end

--- Names of the options that a function takes, or an empty list: those registered, those in its
-- documentation, or those of the operator's row. `name` is tried where the value tells nothing.
function M.options(value, name)
  local entry = value ~= nil and given[value] or (name and by_name[name])
  if entry and entry.options then return entry.options end
  local doc = entry and entry_text(entry) or M.doc(value)
  cache = {}
  if doc then return written_options(doc) end
  local row = value ~= nil and row_of(value) or operator_rows()[name]
  return row and row_options(row) or {}
end

-- Follows a path of names from the globals and the loaded modules without calling anything.
local function resolve(path)
  local value, rest, module = _G, path:gsub(':', '.'), path
  while module do -- from the longest module that is loaded
    if package.loaded[module] ~= nil then
      value, rest = package.loaded[module], path:sub(#module + 2):gsub(':', '.')
      break
    end
    module = module:match '^(.*)%.[^.]*$'
  end
  for part in rest:gmatch('[^.]+') do
    local found
    for _ = 1, 20 do
      if type(value) ~= 'table' then break end
      found = rawget(value, part)
      local meta = debug.getmetatable(value)
      if found ~= nil or type(meta) ~= 'table' then break end
      value = rawget(meta, '__index')
    end
    if found == nil then return nil end
    value = found
  end
  return value
end

local homes = { '', 'vestige.', 'vestige.attacks.', 'vestige.unlearn.', 'vestige.models.',
  'vestige.metrics.', 'vestige.nn.', 'vestige.optim.', 'vestige.data.' }

-- Names of the files in those homes, loaded or not.
local function file_names()
  local out = {}
  local ok, host = pcall(require, 'vestige.host')
  for template in (ok and package.path or ''):gmatch('[^;]+') do
    local folder = template:match('^(.*)/%?%.lua$')
    for i = 2, folder and #homes or 1 do
      for _, entry in ipairs(host.list(folder .. '/' .. homes[i]:gsub('%.', '/')) or {}) do
        out[#out + 1] = entry:match('^([%w_]+)%.lua$')
      end
    end
  end
  return out
end

local function known_names()
  local seen, out = {}, {}
  local function add(name)
    if type(name) == 'string' and not name:find('^_') and not seen[name] then
      seen[name] = true
      out[#out + 1] = name
    end
  end
  for name in next, _G do add(name) end
  for name in next, by_name do add(name) end
  for name in next, operator_rows() do add(name) end
  for _, name in ipairs(file_names()) do add(name) end
  for name, content in next, package.loaded do
    add(name)
    if type(content) == 'table' and type(name) == 'string' and name:find('^vestige') then
      for key, value in next, content do
        if type(key) == 'string' and type(value) == 'function' then add(name .. '.' .. key) end
      end
    end
  end
  return out
end

-- Loads the module of ours that a path of names begins with: vestige.nn of vestige.nn.Linear.
local function load_module(name)
  local module = name
  while module:find '^vestige%.' and not module:find '^vestige%.program' do
    if package.searchpath(module, package.path) then return pcall(require, module) end
    module = module:match '^(.*)%.[^.]*$'
  end
end

local function name_help(name)
  load_module(name)
  local value = resolve(name)
  if value ~= nil and type(value) ~= 'string' then return M.text(value) end
  local entry = by_name[name]
  if entry then return ('%s\n\n  %s'):format(name, (entry_text(entry):gsub('\n', '\n  '))) end
  local row = operator_rows()[name:match('[^.:]*$')] -- also of x:sum, whatever x is
  if row then return row_text(row) end
  for _, home in ipairs(homes) do
    if resolve(home .. name) ~= nil and home ~= '' then return M.text(resolve(home .. name)) end
    local path = package.searchpath(home .. name, package.path)
    if path and home ~= '' then load_module(home .. name) end
    if path then return file_help(home .. name, path, package.loaded[home .. name]) end
  end
  local names = known_names()
  local parent, dot = name:match('^(.+)([.:])[^.:]*$')
  local owner = parent and resolve(parent)
  for key in next, type(owner) == 'table' and owner or {} do
    if type(key) == 'string' then names[#names + 1] = parent .. dot .. key end
  end
  return nil, ("nothing is known about '%s'%s"):format(name, nearest.hint(name, names))
end

local tour = [[
Type an expression to see its value, a statement to run it; Tab completes names and options.

  ?x, help(x)       what x is: a function, an operator, a module, an attack, a name in quotes
  ?vestige          the engine: tensors, operators, autograd
  ?vestige.nn       layers          ?vestige.optim    optimisers      ?vestige.data   data sets
  ?vestige.attacks  poisoning       ?vestige.unlearn  unlearning      ?vestige.study  studies
  show(x)           a picture of an image or a batch in the terminal
  plot(x)           a curve or a histogram
  reload 'module'   runs a module's file again in place; objects made before stay
  :save FILE        the lines that worked so far as a script;  :help  :quit

A chunk may span lines; Ctrl-C drops it, or stops what runs. `local` ends with its line: leave it
out to keep a value. Start here:

  x = vestige.randn({3, 4})
  x:sum()]]

--- The text that help(x) prints; nil and a message for a name that nothing is known about.
function M.text(x)
  local engine = package.loaded['vestige']
  local name_all = type(engine) == 'table' and rawget(engine, '_name_all')
  if name_all then name_all() end
  cache = {}
  if x == nil then return tour end
  if given[x] then
    local entry = given[x]
    local name = entry.name or name_of(x)
    return ('%s%s'):format(name and name .. '\n\n' or '',
      (('  ' .. entry_text(entry)):gsub('\n', '\n  ')))
  end
  local kind = type(x)
  if kind == 'function' then return function_help(x) end
  if kind == 'string' then return name_help(x) end
  if kind == 'table' then
    local name = module_of(x)
    local path = name and package.searchpath(name, package.path)
    if path then return file_help(name, path, x) end
    return table_help(x)
  end
  local vestige = package.loaded['vestige']
  if kind == 'cdata' and vestige and vestige.is_tensor and vestige.is_tensor(x) then
    local methods = listing(require('vestige.tensor').methods, ':')
    return ('a tensor of type %s, shape (%s), on %s\n\n%s'):format(x:dtype(),
      table.concat(x:shape(), ','), x:device(), table.concat(methods, '\n'))
  end
  if kind == 'number' or kind == 'boolean' then return ('a %s: %s'):format(kind, tostring(x)) end
  return ('%s: %s'):format(kind == 'cdata' and tostring(require('ffi').typeof(x)) or kind,
    tostring(x))
end

--- The summary of a Lua file in one sentence: the first of its head, or "".
function M.summary(path)
  cache = {}
  local lines = lines_of('@' .. path)
  local head = lines and block_at_head(lines)
  return head and first_sentence(head) or ''
end

--- Prints help about the source text of an expression, as `?x` does: a path of names is looked up
-- raw if it can be, other text is evaluated; what is nothing then is tried as a name.
function M.ask(text)
  if text == '' then return M.print() end
  local value
  if text:find('^[%a_][%w_.:]*$') then
    value = resolve(text)
    if value == nil and text:find('[.:]') then -- behind an __index that is a function
      local chunk = loadstring('return ' .. text:gsub(':', '.'), '=help')
      local ok, found = pcall(chunk or error)
      if ok then value = found end
    end
    if value == nil then value = text end
  elseif text:find('^[%w_]*[+%-*/%^%%]$') then
    value = text
  else
    local chunk = loadstring('return ' .. text, '=help')
    local ok, result = pcall(chunk or error, 'help expects a name or an expression')
    if not ok then error(result, 0) end
    value = result == nil and text or result
  end
  if type(value) == 'string' and resolve(text) ~= nil and text ~= value then -- not a name
    print(("'%s' is a string"):format(text))
    return
  end
  M.print(value)
end

--- Prints M.text(x).
function M.print(x)
  local text, problem = M.text(x)
  print(text or problem)
end

setmetatable(M, { __call = function(_, x) M.print(x) end })

return M
