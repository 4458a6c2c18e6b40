-- Option tables: declared once, then checked, printed, and read from the command line.
--
-- Two ways to declare. A plain table of defaults ({lr = 0.1, train = {epochs = 20}}) is enough for
-- attacks, methods and stages; options.merge checks a given table against it. An experiment
-- declares rows with documentation by options.declare and gets a command line from them.
-- Nested options have dotted names: train.epochs in Lua is o.train.epochs, and --train.epochs 20.

local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'

local M = {}

local Declared = {} -- a default that says more than a value: {kind, choices, value}

local function is_declared(v) return getmetatable(v) == Declared end

-- The value that a default stands for.
local function plain(default)
  if is_declared(default) then return default.value end
  return default
end

--- options.maybe(kind, choices): a default of nil for an option of that kind ('number', 'string',
-- ...); 'table' takes any table of plain values, 'choice' one of the list choices.
-- Example:
-- > local options = require 'vestige.options'
-- > local defaults = { clip = options.maybe 'number' }
-- > assert(options.merge(defaults, {}).clip == nil)
-- > assert(options.merge(defaults, { clip = 1 }).clip == 1)
function M.maybe(kind, choices)
  return setmetatable({ kind = kind, choices = choices }, Declared)
end

--- options.one_of(default, ...): a default that is a word, and the words that may take its place.
-- Example:
-- > local options = require 'vestige.options'
-- > local defaults = { form = options.one_of('alternate', 'joint') }
-- > assert(options.merge(defaults, {}).form == 'alternate')
-- > local ok, message = pcall(options.merge, defaults, { form = 'joined' })
-- > assert(message:find("did you mean 'joint'", 1, true))
function M.one_of(default, ...)
  return setmetatable({ kind = 'choice', choices = { default, ... }, value = default }, Declared)
end

-- Whether a table is a group of options rather than a value (a list).
local function is_group(v)
  return type(v) == 'table' and not is_declared(v) and #v == 0 and next(v) ~= nil
end

--- options.flatten(t): {a = {b = 1}} as {['a.b'] = 1}. Lists are values and stay whole.
-- Example:
-- > assert(require('vestige.options').flatten{ a = { b = 1 } }['a.b'] == 1)
function M.flatten(t)
  local flat = {}
  local function walk(group, prefix)
    for key, v in pairs(group) do
      local name = prefix .. tostring(key)
      if is_group(v) then walk(v, name .. '.') else flat[name] = v end
    end
  end
  walk(t, '')
  return flat
end

--- options.nest(flat): the inverse of options.flatten.
-- Example:
-- > assert(require('vestige.options').nest{ ['a.b'] = 1 }.a.b == 1)
function M.nest(flat)
  local t = {}
  for name, v in pairs(flat) do
    local group = t
    for part in name:gmatch('([^.]+)%.') do
      group[part] = group[part] or {}
      group = group[part]
    end
    group[name:match('[^.]+$')] = v
  end
  return t
end

local function same(a, b)
  if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
  for key, v in pairs(a) do if not same(v, b[key]) then return false end end
  for key in pairs(b) do if a[key] == nil then return false end end
  return true
end

--- options.differing(defaults, o): the flat table of the options in o that differ from defaults.
-- Example:
-- > local d = require('vestige.options').differing({ a = 1, b = 2 }, { a = 1, b = 3 })
-- > assert(d.a == nil and d.b == 3)
function M.differing(defaults, o)
  local base, out = M.flatten(defaults), {}
  for name, v in pairs(M.flatten(o)) do
    if not same(plain(base[name]), v) then out[name] = v end
  end
  return out
end

--- options.text(value): an option's value as one writes it on a command line.
-- Example:
-- > assert(require('vestige.options').text{ 1, 2 } == '1,2')
function M.text(value)
  value = plain(value)
  if value == nil then return 'none' end
  if value == '' then return "''" end
  if type(value) == 'number' then
    local short = ('%.14g'):format(value)
    return tonumber(short) == value and short or ('%.17g'):format(value)
  end
  if type(value) ~= 'table' then return tostring(value) end
  local parts = {}
  for i, v in ipairs(value) do parts[i] = M.text(v) end
  return table.concat(parts, ',')
end

local nouns = {
  int = 'an integer', number = 'a number', boolean = 'true or false', string = 'a text',
  path = 'a path', list = 'a list', choice = 'one of ', any = 'a value',
}

local function expected(row)
  if row.kind == 'choice' then return nouns.choice .. table.concat(row.choices, ', ') end
  local noun = nouns[row.kind] or 'a ' .. row.kind
  if row.kind == 'list' then
    noun = noun .. (row.of == 'number' and ' of numbers' or '')
  end
  if row.min then noun = noun .. ' of at least ' .. M.text(row.min) end
  if row.max then noun = noun .. (row.min and ' and' or ' of') .. ' at most ' .. M.text(row.max) end
  return noun
end

local lua_types = {
  int = 'number', number = 'number', boolean = 'boolean', string = 'string', path = 'string',
  choice = 'string', list = 'table',
}

-- nil when `v` suits the row, else what was expected.
local function complaint(row, v)
  local kind = row.kind
  local fits = kind == 'any' or type(v) == (lua_types[kind] or kind)
  if fits and lua_types[kind] == 'number' then
    fits = v == v and not (row.min and v < row.min) and not (row.max and v > row.max)
    if kind == 'int' then fits = fits and v == math.floor(v) and math.abs(v) <= 2 ^ 53 end
  elseif fits and kind == 'choice' then
    fits = false
    for _, choice in ipairs(row.choices) do fits = fits or v == choice end
  elseif fits and kind == 'list' then
    for _, item in ipairs(v) do fits = fits and (not row.of or type(item) == row.of) end
  end
  if fits then return nil end
  local hint = kind == 'choice' and type(v) == 'string' and nearest.hint(v, row.choices) or ''
  return 'expected ' .. expected(row), hint
end

local function inferred(default)
  local kind = type(default)
  return kind == 'table' and 'list' or (nouns[kind] or kind == 'function') and kind or 'any'
end

local function row_of(name, default, extra)
  local row = { name = name, default = plain(default) }
  if is_declared(default) then row.kind, row.choices = default.kind, default.choices end
  for key, v in pairs(extra or {}) do row[key] = v end
  row.kind = row.kind or row.choices and 'choice' or inferred(default)
  if row.kind == 'list' and not row.of and type(default) == 'table' and default[1] ~= nil then
    row.of = type(default[1])
  end
  return row
end

local function copy(v)
  if type(v) ~= 'table' then return v end
  local t = {}
  for key, x in pairs(v) do t[key] = copy(x) end
  return setmetatable(t, getmetatable(v))
end

local function shown(v)
  return type(v) == 'string' and ("'%s'"):format(v) or M.text(v)
end

-- What to say about a name that no row has; nil when it is an empty group, which sets nothing.
local function stranger(name, v, rows)
  for known in pairs(rows) do
    if known:sub(1, #name + 1) == name .. '.' then
      if type(v) == 'table' and next(v) == nil then return nil end
      return ('%s: expected a table of options, got %s'):format(name, shown(v))
    end
  end
  return ('unknown option %s%s'):format(name, nearest.hint(name, rows))
end

-- Whether a name lies in a group that takes any table: an option whose default is maybe 'table'.
local function in_open_group(name, rows)
  local group = name:match '^(.*)%.[^.]+$'
  while group do
    if rows[group] and rows[group].kind == 'table' then return true end
    group = group:match '^(.*)%.[^.]+$'
  end
  return false
end

-- Sets `given` over `flat`, checked against rows by name; `raise` takes the message.
local function overlay(flat, rows, given, raise)
  for name, v in pairs(M.flatten(given)) do
    local row = rows[name]
    if row then
      local problem, hint = complaint(row, v)
      if problem then raise(('%s: %s, got %s%s'):format(name, problem, shown(v), hint)) end
      flat[name] = copy(v)
    elseif in_open_group(name, rows) then
      flat[name] = copy(v)
    else
      local problem = stranger(name, v, rows)
      if problem then raise(problem) end
    end
  end
  return flat
end

local function start(rows)
  local flat = {}
  for name, row in pairs(rows) do
    if row.default ~= nil then flat[name] = copy(row.default) end
  end
  return flat
end

--- options.merge(defaults, given, settings): a new table, `given` over `defaults`, both checked.
-- defaults: a plain (nested) table; the default's type is the option's type, lists included;
-- options.maybe and options.one_of say more.
-- settings: where (''): what messages start with, `attack gaussian`; grid: a table of lists of
-- values to search over; its names and values are checked too.
-- Errors: an unknown option, with the nearest name; a value of another type.
-- Example:
-- > local options = require 'vestige.options'
-- > local o = options.merge({ lr = 0.1, train = { epochs = 20 } }, { train = { epochs = 3 } })
-- > assert(o.lr == 0.1 and o.train.epochs == 3)
-- > local ok, message = pcall(options.merge, { epochs = 20 }, { epoch = 3 })
-- > assert(message:find("did you mean 'epochs'", 1, true))
function M.merge(defaults, given, settings)
  settings = settings or {}
  local prefix = settings.where and settings.where .. ': ' or ''
  local function raise(message) fail('%s', prefix .. message) end
  local rows = {}
  for name, default in pairs(M.flatten(defaults)) do rows[name] = row_of(name, default) end
  for name, values in pairs(M.flatten(settings.grid or {})) do
    if type(values) ~= 'table' then raise(('grid.%s: expected a list of values'):format(name)) end
    for _, v in ipairs(values) do overlay({}, rows, { [name] = v }, raise) end
  end
  return M.nest(overlay(start(rows), rows, given or {}, raise))
end

local Spec = {}
Spec.__index = Spec

local common = {
  { 'runs', 'runs', 'folder that holds the stages', kind = 'path', stages = true },
  { 'fresh', false, 'run every stage again', stages = true },
  { 'quiet', false, 'print only the results' },
  { 'print_config', false, 'print every option and stop' },
  { 'help', false, 'print this and stop' },
}

--- options.declare(t): a declared table of options with a command line.
-- t: rows {name, default, doc, kind=, min=, max=, choices=, of=} in the order of the help; kind is
-- int, number, boolean, string, path, choice or list, and is taken from the default when left out;
-- usage: how the script is called; about: what it does; tables: {prefix = defaults} adds rows for
-- plain tables, docs: {['prefix.name'] = doc} for them; scales: {small = {...}, paper = {...}}
-- sets of values, scale ('small'): the one used when none is named; rest: what plain arguments
-- are called (they are errors without it) and come in o.rest.
-- stages: false for a command that runs no stages.
-- Every command line also has --runs and --fresh, for stages, --quiet, --print-config and --help.
-- Returns a spec with spec:parse(argv) and spec:options(given).
-- Errors: a row given twice, a scale that names an unknown option.
-- Example:
-- > local spec = require('vestige.options').declare{
-- >   usage = 'vestige experiments/x.lua', about = 'Measures x.',
-- >   { 'train.epochs', 17, 'passes over the data', kind = 'int', min = 1 },
-- >   { 'train.lr', 0.1, 'learning rate' },
-- >   scales = { small = {}, paper = { train = { epochs = 100 } } },
-- > }
-- > local o = spec:parse{ '--scale', 'paper', '--train.lr=0.2' }
-- > assert(o.train.epochs == 100 and o.train.lr == 0.2 and not o.fresh)
function M.declare(t)
  local spec = setmetatable({ rows = {}, order = {}, usage = t.usage, about = t.about,
    scales = t.scales, rest = t.rest }, Spec)
  local function add(row)
    if spec.rows[row.name] then fail('option %s is declared twice', row.name) end
    spec.rows[row.name] = row
    spec.order[#spec.order + 1] = row.name
  end
  if t.scales then
    local names = {}
    for name in pairs(t.scales) do names[#names + 1] = name end
    table.sort(names, function(a, b) return a > b end)
    add(row_of('scale', t.scale or 'small', { doc = 'which setting', choices = names }))
  end
  for _, row in ipairs(t) do
    local extra = { doc = row[3] }
    for key, v in pairs(row) do if type(key) == 'string' then extra[key] = v end end
    add(row_of(row[1], row[2], extra))
  end
  local flat, names = M.flatten(t.tables or {}), {}
  for name in pairs(flat) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    if not spec.rows[name] then add(row_of(name, flat[name], { doc = (t.docs or {})[name] })) end
  end
  for _, row in ipairs(common) do
    if t.stages ~= false or not row.stages then
      add(row_of(row[1], row[2], { doc = row[3], kind = row.kind, common = true }))
    end
  end
  for name, values in pairs(t.scales or {}) do
    overlay({}, spec.rows, values, function(message) fail('scale %s: %s', name, message) end)
  end
  return spec
end

-- The flat values that hold where only a scale is named (nil: the one that holds then).
local function values_at(spec, scale)
  local flat = start(spec.rows)
  if spec.scales then overlay(flat, spec.rows, spec.scales[scale or flat.scale], fail) end
  return flat
end

-- Defaults, then the scale, then `given` (flat or nested).
local function build(spec, given, raise)
  local chosen = overlay({}, spec.rows, given, raise)
  local flat = values_at(spec, chosen.scale)
  for name, v in pairs(chosen) do flat[name] = v end
  return M.nest(flat)
end

--- spec:options(given): the full option table for a table of given ones, from Lua.
-- Errors: as options.merge.
-- Example:
-- > local spec = require('vestige.options').declare{ { 'seed', 1, 'of all streams' } }
-- > assert(spec:options{ seed = 2 }.seed == 2)
function Spec:options(given)
  return build(self, given or {}, function(message) fail('%s', message) end)
end

local function dashed(name) return '--' .. name:gsub('_', '-') end

local function to_number(word)
  local a, b = word:match('^([^/]+)/([^/]+)$')
  a, b = tonumber(a), tonumber(b)
  return a and b and a / b or tonumber(word)
end

-- A command line's word as the row's kind of value; a word that does not fit stays a string,
-- which the check then names.
local function value_of(row, word)
  local kind = lua_types[row.kind] or row.kind
  if kind == 'number' then return to_number(word) or word end
  if kind == 'boolean' and word == 'false' then return false end
  if kind == 'boolean' and word == 'true' then return true end
  if kind ~= 'table' then return word end
  local list = {}
  for item in word:gmatch('[^,]+') do
    list[#list + 1] = row.of ~= 'string' and to_number(item) or item
  end
  return list
end

--- spec:parse(argv): the option table that a command line asks for.
-- Words: `--name value`, `--name=value`, `--flag`, `--no-flag`; - and _ in names are the same;
-- numbers may be fractions (16/255); lists are separated by commas.
-- Returns o, and a text as well when --help or --print-config asked for one: print it and stop.
-- Errors (without a position, they are the user's): an unknown option with the nearest name,
-- a value of the wrong type with option, value and what was expected, a missing value.
-- Example:
-- > local spec = require('vestige.options').declare{ { 'eps', 0.1, 'bound', min = 0 } }
-- > assert(spec:parse{ '--eps', '16/255' }.eps == 16 / 255)
-- > local _, text = spec:parse{ '--help' }; assert(text:find('--eps', 1, true))
function Spec:parse(argv)
  local function raise(message) error(message, 0) end
  local given, rest, i = {}, {}, 1
  while i <= #argv do
    local word = argv[i]
    local name, value = word:match('^%-%-([^=]+)=(.*)$')
    name = name or word:match('^%-%-(.+)$') or word == '-h' and 'help'
    if not name then
      if not self.rest then raise(("unexpected argument '%s'"):format(word)) end
      rest[#rest + 1] = word
    else
      local asked = name
      name = name:gsub('-', '_')
      local row, negated = self.rows[name], name:match('^no_(.+)$')
      if not row and negated and not value and (self.rows[negated] or {}).kind == 'boolean' then
        given[negated] = false
      elseif not row then
        local hint = nearest.find(name, self.rows)
        raise(('unknown option --%s%s'):format(asked,
          hint and ("; did you mean '%s'?"):format(dashed(hint)) or ''))
      elseif row.kind == 'boolean' and not value then
        given[name] = true
      else
        if not value then
          i = i + 1
          value = argv[i]
        end
        if not value then raise(('%s: %s must follow'):format(dashed(name), expected(row))) end
        given[name] = value_of(row, value)
      end
    end
    i = i + 1
  end
  local o = build(self, given, function(message) raise('--' .. message) end)
  if self.rest then o.rest = rest end
  if o.help then return o, self:help(o.scale) end
  if o.print_config then return o, self:config(o) end
  return o
end

local function sorted_width(lines)
  local width = 0
  for _, line in ipairs(lines) do width = math.max(width, #line[1]) end
  return width
end

--- spec:config(o): every option with its value, one a line; the ones off the value that they have
-- at o's scale say so.
-- Example:
-- > local spec = require('vestige.options').declare{ { 'lr', 0.1, 'learning rate' } }
-- > assert(spec:config(spec:options{ lr = 0.2 }):find('lr = 0.2', 1, true))
function Spec:config(o)
  local flat, lines, out = M.flatten(o), {}, {}
  local defaults = values_at(self, o.scale)
  for _, name in ipairs(self.order) do
    local row = self.rows[name]
    if not row.common then
      local note = row.doc or ''
      if not same(defaults[name], flat[name]) then
        note = note .. (' (default %s)'):format(M.text(defaults[name]))
      end
      lines[#lines + 1] = { name, M.text(flat[name]), note }
    end
  end
  local width = sorted_width(lines)
  for i, line in ipairs(lines) do
    local text = ('%-' .. width .. 's = %-12s  %s'):format(line[1], line[2], line[3])
    out[i] = text:gsub('%s+$', '')
  end
  return table.concat(out, '\n')
end

--- spec:help(scale): the text of --help, with the values of that scale ('small').
-- Example:
-- > assert(require('vestige.options').declare{ about = 'Does x.' }:help():find('Does x.', 1, true))
function Spec:help(scale)
  local lines, out = {}, {}
  local defaults = values_at(self, scale)
  for _, name in ipairs(self.order) do
    local row = self.rows[name]
    local value = row.kind == 'boolean' and ''
      or row.kind == 'choice' and ' ' .. table.concat(row.choices, '|')
      or ' ' .. row.kind:upper()
    local default = row.kind ~= 'boolean' and (' (%s)'):format(M.text(defaults[name])) or ''
    lines[#lines + 1] = { dashed(name) .. value, (row.doc or '') .. default }
  end
  local width = sorted_width(lines)
  local rest = self.rest and ' ' .. self.rest or ''
  out[1] = ('usage: %s [options]%s'):format(self.usage or 'script', rest)
  if self.about then out[#out + 1] = self.about end
  out[#out + 1] = ''
  for _, line in ipairs(lines) do
    out[#out + 1] = ('  %-' .. width .. 's  %s'):format(line[1], line[2])
  end
  return table.concat(out, '\n')
end

--- options.command_line(argv, program): a command line as one would type it again.
-- argv: words, argv[0] the script; program ('vestige').
-- Example:
-- > local options = require 'vestige.options'
-- > assert(options.command_line({ [0] = 'a.lua', '--x', 'b c' }) == "vestige a.lua --x 'b c'")
function M.command_line(argv, program)
  local words = { program or 'vestige' }
  for i = 0, #argv do
    local word = argv[i]
    if word and not word:find('^[%w%-_./=:,+@%%]+$') then
      word = "'" .. word:gsub("'", "'\\''") .. "'"
    end
    words[#words + 1] = word
  end
  return table.concat(words, ' ')
end

--- options.given(name, f, ...): f(...), where an error is the fault of what the user gave for the
-- option `name`: it is told as that, without a line of the script.
-- Example:
-- > local options = require 'vestige.options'
-- > local ok, message = pcall(options.given, '--data', error, 'x.lua:1: no such folder')
-- > assert(not ok and message == '--data: no such folder')
function M.given(name, f, ...)
  local results = { pcall(f, ...) }
  if results[1] then return unpack(results, 2, table.maxn(results)) end
  error(('%s: %s'):format(name, (tostring(results[2]):gsub('^[^\n]-:%d+: ', ''))), 0)
end

return M
