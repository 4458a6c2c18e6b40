-- What a runs folder holds: stages in any state, and reports. `vestige runs` prints it.
--
-- Nothing here computes or waits. A folder that cannot be understood, such as one with half a
-- result.json, is listed as broken with the reason.
local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local nearest = require 'vestige.nearest'
local options = require 'vestige.options'
local study = require 'vestige.study'

local M = {}

local SHORTEST = 4 -- characters of a key, as git asks for

-- ---- Reading ----

-- The table in a JSON file; nil where there is none, and what is wrong with it.
local function load(path)
  if not fs.exists(path) then return nil end
  local ok, t = pcall(json.load, path)
  if ok and type(t) == 'table' then return t end
  return nil, ok and path .. ': expected an object' or tostring(t)
end

--- runs.files(dir): {name, size} of every file below a folder, links not followed, and the sum.
function M.files(dir)
  local list, total = {}, 0
  local function walk(prefix)
    for _, name in ipairs(fs.list(dir .. '/' .. prefix)) do
      local there = fs.stat(dir .. '/' .. prefix .. name)
      if there and there.kind == 'folder' then
        walk(prefix .. name .. '/')
      elseif there then
        list[#list + 1] = { name = prefix .. name, size = there.size }
        total = total + there.size
      end
    end
  end
  walk ''
  return list, total
end

-- finished, running, stopped, failed, and why.
local function state_of(dir)
  local ok, state, message = pcall(study.status, dir)
  if not ok then return 'broken', state end
  if state ~= 'interrupted' and state ~= 'absent' then return state, message end
  local kept = fs.exists(dir .. '/checkpoint.safetensors')
  return 'stopped', kept and 'has a checkpoint' or 'begins again'
end

local function table_of(v) return type(v) == 'table' and v or {} end

local function read_stage(entry)
  local config, bad_config = load(entry.dir .. '/config.json')
  local result, bad_result = load(entry.dir .. '/result.json')
  entry.config, entry.result = config or {}, result or {}
  local stage, key = entry.name:match '^(.*)%-(%x+)$'
  entry.stage, entry.key = entry.config.stage or stage, entry.config.key or key
  entry.options = options.flatten(table_of(entry.config.options))
  entry.inputs = table_of(entry.config.inputs)
  entry.estimates = table_of(entry.result.estimates)
  entry.seconds = entry.result.seconds
  entry.state, entry.problem = state_of(entry.dir)
  local bad = bad_config or bad_result or entry.state == 'finished' and not config
              and 'config.json is missing'
  if bad then entry.state, entry.problem = 'broken', bad end
end

local function read_report(entry)
  local report, bad = load(entry.dir .. '/report.json')
  entry.config, entry.result, entry.options, entry.inputs, entry.estimates = {}, {}, {}, {}, {}
  entry.stage, entry.key = 'report', entry.name
  entry.state = bad and 'broken' or 'report'
  entry.problem = bad or report.conclusion or report.title
end

local function read(root, name)
  local entry = { name = name, dir = root .. '/' .. name }
  local there = fs.stat(entry.dir, true)
  if not there or there.kind ~= 'folder' then return nil end
  if fs.exists(entry.dir .. '/report.json') then
    read_report(entry)
  elseif name:find('%-' .. ('%x'):rep(12) .. '$') then
    read_stage(entry)
  else
    return nil
  end
  local _, bytes = M.files(entry.dir)
  local began = fs.stat(entry.dir .. '/config.json', true) or there
  entry.bytes, entry.when = bytes, entry.result.finished_at or began.mtime
  return entry
end

--- runs.scan(root): what a runs folder holds, oldest first: a list of {name (the folder's), dir,
-- stage, key, state, problem (why, where the state has a reason), options (flat), inputs (name ->
-- key or hash), estimates, bytes, seconds, when (since 1970), config, result}.
-- state: finished, running, stopped, failed, broken, or report: a study's output, whose stage is
-- 'report' and whose key is its name. Other folders and files are left out.
-- Errors: a folder that is not there.
-- Example:
-- > assert(not pcall(require('vestige.runs').scan, '/no/such'))
function M.scan(root)
  local list = {}
  for _, name in ipairs(fs.list(root)) do list[#list + 1] = read(root, name) end
  table.sort(list, function(a, b)
    if a.when ~= b.when then return a.when < b.when end
    return a.name < b.name
  end)
  return list
end

-- ---- Choosing ----

local function begins(text, word) return text:sub(1, #word) == word end

-- The entries that a word names: a key or a folder's name, or the beginning of either.
local function named(entries, word)
  local found = {}
  for _, e in ipairs(entries) do
    if e.name == word or e.key == word then return { e } end
    if #word >= SHORTEST and (begins(e.key, word) or word:find '%-%x' and begins(e.name, word)) then
      found[#found + 1] = e
    end
  end
  return found
end

local function stage_names(entries)
  local names = {}
  for _, e in ipairs(entries) do names[e.stage] = true end
  return names
end

local function unknown(entries, word, more)
  if word:find '^%x+$' and #word < SHORTEST then
    fail("'%s': a key is shortened to no less than %d characters", word, SHORTEST)
  end
  local names = stage_names(entries)
  for _, name in ipairs(more or {}) do names[name] = true end
  for _, e in ipairs(entries) do names[e.name] = true end
  fail("no stage and no key '%s' here%s", word, nearest.hint(word, names))
end

--- runs.find(entries, word): the entry whose key, or folder's name, is or begins with word.
-- Errors: none, with the nearest name; several, with what they are.
function M.find(entries, word)
  local found = named(entries, word)
  if #found == 0 then unknown(entries, word) end
  if #found > 1 then
    local names = {}
    for i, e in ipairs(found) do names[i] = e.name end
    fail("'%s' may be any of %s", word, table.concat(names, ', '))
  end
  return found[1]
end

-- Whether an option has the value that a word says: as numbers where both are.
local function equals(value, word)
  if value == nil then return false end
  if type(value) == 'number' and tonumber(word) then return value == tonumber(word) end
  return options.text(value) == word
end

-- A word NAME=VALUE as a test of entries.
local function filter(entries, name, word)
  if name == 'stage' or name == 'state' then
    return function(e) return e[name] == word end
  end
  local known = { stage = true, state = true }
  for _, e in ipairs(entries) do
    for option in pairs(e.options) do known[option] = true end
  end
  if not known[name] and entries[1] then
    fail("no stage here has an option '%s'%s", name, nearest.hint(name, known))
  end
  return function(e) return equals(e.options[name], word) end
end

--- runs.select(entries, words, more): the entries that words choose, in order: all filters
-- NAME=VALUE must hold (an option, nested ones with dots, or stage and state), and one of the
-- other words, each a stage's name or a key as in runs.find, must be theirs. more: further words
-- that a mistyped one may have meant.
-- Errors: an unknown option, stage or key, with the nearest name; an ambiguous key.
function M.select(entries, words, more)
  local filters, chosen, any = {}, {}, true
  local stages = stage_names(entries)
  for _, word in ipairs(words) do
    local name, value = word:match '^([%w_.-]+)=(.*)$'
    if name then
      filters[#filters + 1] = filter(entries, name, value)
    else
      any = false
      if stages[word] then
        for _, e in ipairs(entries) do
          if e.stage == word then chosen[e] = true end
        end
      elseif #named(entries, word) == 0 then
        unknown(entries, word, more)
      else
        chosen[M.find(entries, word)] = true
      end
    end
  end
  local list = {}
  for _, e in ipairs(entries) do
    local holds = any or chosen[e]
    for _, f in ipairs(filters) do holds = holds and f(e) end
    if holds then list[#list + 1] = e end
  end
  return list
end

-- ---- What depends on what ----

--- runs.by_key(entries): key -> entry.
function M.by_key(entries)
  local map = {}
  for _, e in ipairs(entries) do map[e.key] = e end
  return map
end

--- runs.dependents(entries, chosen): the entries, not chosen themselves, that were made from a
-- chosen one, directly or not.
function M.dependents(entries, chosen)
  local gone, list = {}, {}
  for _, e in ipairs(chosen) do gone[e.key] = true end
  local more = true
  while more do
    more = false
    for _, e in ipairs(entries) do
      for _, input in pairs(e.inputs) do
        if gone[input] and not gone[e.key] then
          gone[e.key], more = true, true
          list[#list + 1] = e
        end
      end
    end
  end
  return list
end

-- ---- Comparing ----

local function differing_names(a, b, same)
  local names, list = {}, {}
  for name in pairs(a) do names[name] = true end
  for name in pairs(b) do names[name] = true end
  for name in pairs(names) do
    if not same(a[name], b[name]) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function same_value(a, b)
  if a == nil or b == nil then return a == b end
  return options.text(a) == options.text(b)
end

--- runs.diff(entries, a, b): what differs between two stages: a list of {kind = 'option', 'input'
-- or 'result', name, of a, of b}, nil where one has none. Of inputs that differ, the options that
-- do are named too: data through inputs, as model.method.
function M.diff(entries, a, b)
  local rows, keys = {}, M.by_key(entries)
  local function add(kind, prefix, x, y, same)
    local names = differing_names(x, y, same or same_value)
    for _, name in ipairs(names) do
      rows[#rows + 1] = { kind = kind, name = prefix .. name, a = x[name], b = y[name] }
    end
    return names
  end
  local function compare(x, y, prefix)
    add('option', prefix, x.options, y.options)
    add('option', prefix, { version = x.config.version }, { version = y.config.version })
    for _, name in ipairs(add('input', prefix, x.inputs, y.inputs, rawequal)) do
      local p, q = keys[x.inputs[name]], keys[y.inputs[name]]
      if p and q then compare(p, q, prefix .. name .. '.') end
    end
  end
  add('option', '', { stage = a.stage }, { stage = b.stage })
  compare(a, b, '')
  add('result', '', options.flatten(a.estimates), options.flatten(b.estimates))
  return rows
end

-- ---- Removing ----

--- runs.remove(root, entry): removes one folder of a runs folder, unless a process runs the stage.
-- The stage's lock is held meanwhile, and the folder gets another name first: who waits for the
-- stage finds it gone as a whole, and runs it anew. Returns whether it was removed.
-- Errors: a folder outside root; the path and the reason.
function M.remove(root, entry)
  local dir = root .. '/' .. entry.name
  local there = fs.stat(dir)
  if not there then return true end
  if there.kind ~= 'folder' then -- a link: what it leads to stays
    fs.remove_tree(dir, root)
    return true
  end
  local held = fs.lock(dir .. '/.lock', { wait = false })
  if not held then return false end
  local aside = ('%s/.%s.removed'):format(root, entry.name)
  local ok, err = pcall(function()
    fs.remove_tree(aside, root) -- of a removal that was cut short
    fs.rename(dir, aside)
    fs.remove_tree(aside, root)
  end)
  held:release()
  if not ok then error(err, 0) end
  return true
end

return M
