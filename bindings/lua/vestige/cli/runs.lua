--- Lists, shows, compares and removes what a runs folder holds.
local format = require 'vestige.format'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local options = require 'vestige.options'
local runs = require 'vestige.runs'
local term = require 'vestige.term'

local spec = options.declare{
  usage = 'vestige runs', stages = false,
  rest = '[list | show | diff | rm] [STAGE | KEY | NAME=VALUE ...]',
  about = [[
Lists, shows, compares and removes the stages in a runs folder.

  vestige runs                            all of them, oldest first
  vestige runs unlearn method=gd seed=3   a stage's name, options (nested: model.options.width=16),
                                          state=finished, running, stopped, failed, broken, report
  vestige runs show KEY                   options, results, what it was made from, files
  vestige runs diff KEY KEY               options, inputs and results that differ
  vestige runs rm KEY...                  or chosen as above; asks first, and keeps what others
                                          were made from unless --all
  A key may be shortened to four characters.]],
  { 'runs', 'runs', 'folder that holds the stages', kind = 'path' },
  { 'json', false, 'print JSON instead of text' },
  { 'yes', false, 'rm: do not ask' },
  { 'all', false, 'rm: also what was made from the chosen stages' },
}

local function short(key) return key:find '^%x+$' and key:sub(1, 8) or key end
local function date(seconds) return os.date('%Y-%m-%d %H:%M', seconds) end

-- ---- list ----

-- What a stage is about: its method or attack, or that of the model it scored.
local function subject(e, keys)
  local model = keys[e.inputs.model]
  return e.options.method or e.options.attack or model and (subject(model, keys) or model.stage)
end

-- The results worth a place in a line, in this order.
local main = {
  { 'accuracy.estimate', 'accuracy %.3f' }, { 'gus.estimate', 'GUS %.3f' }, { 'gus.z', 'z %.1f' },
  { 'mia.estimate', 'membership AUC %.2f' }, { 'target.estimate', 'margin %.2f' },
  { 'loss', 'loss %.3g' }, { 'train_accuracy', 'train accuracy %.3f' },
  { 'poisons', '%.0f poisons' }, { 'steps', '%.0f steps' }, { 'moved', 'moved %.3g' },
  { 'best', 'setting %.0f is best' },
}

local function results(e)
  local flat, out = options.flatten(e.estimates), {}
  for _, r in ipairs(main) do
    if type(flat[r[1]]) == 'number' then out[#out + 1] = r[2]:format(flat[r[1]]) end
  end
  if e.state ~= 'finished' then return e.problem end
  return table.concat(out, ', ')
end

local function as_json(e)
  return { name = e.name, dir = e.dir, stage = e.stage, key = e.key, state = e.state,
           problem = e.problem, options = options.nest(e.options), inputs = e.inputs,
           estimates = e.estimates, bytes = e.bytes, seconds = e.seconds, when = e.when,
           command = e.config.command }
end

local function list(entries, words, o, verbs)
  local keys, rows, out = runs.by_key(entries), {}, {}
  local total = 0
  for i, e in ipairs(runs.select(entries, words, verbs)) do
    rows[i] = { e.stage, short(e.key), subject(e, keys), e.options.seed, date(e.when),
                format.bytes(e.bytes), e.seconds and term.duration(e.seconds), e.state, results(e) }
    for j = 1, 9 do
      if rows[i][j] == nil then rows[i][j] = false end
    end
    out[i] = as_json(e)
    total = total + e.bytes
  end
  if o.json then
    print(json.encode(json.array(out), { indent = 2 }))
    return
  end
  if #rows > 0 then
    local width = fs.isatty(1) and math.max(120, term.columns()) or math.huge
    print(term.table(rows, { align = 'lllrlrrll', width = width, header = {
      'stage', 'key', 'of', 'seed', 'when', 'size', 'time', 'state', 'results' } }))
  end
  print(('%d of %d, %s in %s'):format(#rows, #entries, format.bytes(total), o.runs))
end

-- ---- show ----

local function print_flat(title, flat)
  local names, rows = {}, {}
  for name in pairs(flat) do names[#names + 1] = name end
  if #names == 0 then return end
  table.sort(names)
  for i, name in ipairs(names) do
    local v = flat[name]
    rows[i] = { '  ' .. name, type(v) == 'number' and term.number(v, 6) or options.text(v) }
  end
  print('\n' .. title)
  print(term.table(rows, { align = 'll' }))
end

local function print_inputs(e, keys, indent)
  local names = {}
  for name in pairs(e.inputs) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local key = e.inputs[name]
    local input = keys[key]
    print(('%s%s: %s %s'):format(indent, name, input and input.stage or 'data or a stage not here,',
      short(key)))
    if input then print_inputs(input, keys, indent .. '  ') end
  end
end

local function show(entries, words, o)
  if #words ~= 1 then error('show: expected one key, got ' .. #words, 0) end
  local e, keys = runs.find(entries, words[1]), runs.by_key(entries)
  local files = runs.files(e.dir)
  if o.json then
    local t = as_json(e)
    t.config, t.result, t.files = e.config, e.result, json.array(files)
    print(json.encode(t, { indent = 2 }))
    return
  end
  print(('%s %s\n%s%s'):format(e.stage, e.key, e.state, e.problem and ': ' .. e.problem or ''))
  print(('%s, %s%s'):format(date(e.when), format.bytes(e.bytes),
    e.seconds and ', took ' .. term.duration(e.seconds) or ''))
  if e.config.command then print(e.config.command) end
  print_flat('options', e.options)
  print_flat('results', options.flatten(e.estimates))
  if next(e.inputs) then
    print '\nmade from'
    print_inputs(e, keys, '  ')
  end
  local made = runs.dependents(entries, { e })
  if made[1] then print '\nused by' end
  for _, d in ipairs(made) do print(('  %s %s'):format(d.stage, short(d.key))) end
  local about = {}
  for name, v in pairs(e.result) do
    if name ~= 'estimates' and name ~= 'key' and name ~= 'stage' then about[name] = v end
  end
  print_flat('run', options.flatten(about))
  print('\nfiles in ' .. e.dir)
  for _, f in ipairs(files) do print(('  %-28s %s'):format(f.name, format.bytes(f.size))) end
end

-- ---- diff ----

local function diff(entries, words, o)
  if #words ~= 2 then error('diff: expected two keys, got ' .. #words, 0) end
  local a, b = runs.find(entries, words[1]), runs.find(entries, words[2])
  local differing = runs.diff(entries, a, b)
  if o.json then
    print(json.encode(json.array(differing), { indent = 2 }))
    return
  end
  if #differing == 0 then
    print 'they do not differ'
    return
  end
  local function text(kind, v)
    if v == nil then return '-' end
    if kind == 'input' then return short(v) end
    return type(v) == 'number' and term.number(v, 6) or options.text(v)
  end
  local rows = {}
  for i, r in ipairs(differing) do
    rows[i] = { r.kind, r.name, text(r.kind, r.a), text(r.kind, r.b) }
  end
  print(term.table(rows, { align = 'llrr', header = { '', '', short(a.key), short(b.key) } }))
end

-- ---- rm ----

local function line_of(e)
  return ('  %s %s (%s, %s)'):format(e.stage, short(e.key), e.state, format.bytes(e.bytes))
end

local function refuse(why, entries)
  if not entries[1] then return end
  local lines = {}
  for i, e in ipairs(entries) do lines[i] = line_of(e) end
  error(('rm: %s:\n%s'):format(why, table.concat(lines, '\n')), 0)
end

local function those(state, entries)
  local found = {}
  for _, e in ipairs(entries) do
    if e.state == state then found[#found + 1] = e end
  end
  return found
end

-- What is to go: the chosen and, with --all, what was made from them, which goes first. Raises
-- where a finished stage needs it, or one that runs.
local function doomed(entries, chosen, all)
  local users, gone = runs.dependents(entries, chosen), {}
  refuse('these run now', those('running', chosen))
  refuse('these run now and read what is to go', those('running', users))
  if not all then
    refuse('these were made from what is to go; --all removes them too', those('finished', users))
    users = {}
  end
  for i = #users, 1, -1 do gone[#gone + 1] = users[i] end
  for i = #chosen, 1, -1 do gone[#gone + 1] = chosen[i] end
  return gone
end

local function agreed(question)
  io.write(question, ' [y/N] ')
  io.flush()
  local answer = io.read '*l'
  return answer ~= nil and answer:lower():find '^%s*y' ~= nil
end

local function rm(entries, words, o)
  if #words == 0 then
    error('rm: say which: keys, a stage, or NAME=VALUE; see vestige runs --help', 0)
  end
  local gone = doomed(entries, runs.select(entries, words), o.all)
  local function say(...) if not o.quiet then print(...) end end
  local bytes, count, kept = 0, 0, false
  for _, e in ipairs(gone) do bytes = bytes + e.bytes end
  if #gone == 0 then return say 'nothing is chosen' end
  if not o.yes then
    for _, e in ipairs(gone) do print(line_of(e)) end
    if not agreed(('remove %d, %s (%d bytes), from %s?'):format(#gone, format.bytes(bytes), bytes,
                                                              o.runs)) then
      print 'nothing was removed'
      return 1
    end
  end
  bytes = 0
  for _, e in ipairs(gone) do
    if runs.remove(o.runs, e) then
      bytes, count = bytes + e.bytes, count + 1
    else
      io.stderr:write(('%s runs now and is kept\n'):format(e.name))
      kept = true
    end
  end
  say(('removed %d, %s (%d bytes)'):format(count, format.bytes(bytes), bytes))
  return kept and 1 or 0
end

local commands = { list = list, show = show, diff = diff, rm = rm }

return function(args)
  local o, text = spec:parse(args)
  if text then
    print(text)
    return 0
  end
  local entries = options.given('--runs', runs.scan, o.runs)
  local words, verbs = o.rest, {}
  for name in pairs(commands) do verbs[#verbs + 1] = name end
  local run = commands[words[1]]
  if run then table.remove(words, 1) end
  return options.given('vestige runs', run or list, entries, words, o, verbs)
end
