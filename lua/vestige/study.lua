-- Stages: an experiment's steps, each run once and kept in a folder of its own.
--
-- A stage is a function from a plain option table and earlier stages to files in
-- runs/<stage>-<key>/. The key is SHA-256 over the stage's name and version, the options that
-- differ from its defaults, the content hashes of the data and the keys of the input stages, and
-- VESTIGE_CONV where it says direct. Where things are and how fast they run is no part of it: see
-- study.is_keyed.
--
--   config.json             written at the start: options, inputs, source's hash, command
--   metrics.jsonl           one line a ctx.log{...}: step, loss, accuracy, time
--   checkpoint.safetensors  the trainer's; gone when the stage has finished
--   failed.json             message and traceback when the last attempt ended in an error
--   result.json             written last: a folder that has it is finished, and is not run again
--   .lock                   held (flock) by the process that runs the stage; others wait for it

local fail = require 'vestige.fail'
local fs = require 'vestige.fs'
local json = require 'vestige.json'
local options = require 'vestige.options'
local sha256 = require 'vestige.sha256'
local vestige = require 'vestige'

local M = {}

local Record = {}
Record.__index = Record

local unkeyed = {}
for name in ([[threads jobs loaders device verbosity verbose quiet progress fresh runs help
  print_config path dir folder file data out checkpoint_seconds]]):gmatch('%S+') do
  unkeyed[name] = true
end

--- study.is_keyed(name): whether an option of that (dotted) name is part of a stage's key.
-- Not keyed, by their last part: threads, jobs, loaders, device, verbosity, verbose, quiet,
-- progress, fresh, runs, checkpoint_seconds, and paths: path, dir, folder, file, data, out, and
-- what ends in _path, _dir, _folder or _file. What a path leads to is keyed by its content hash.
-- Example:
-- > local study = require 'vestige.study'
-- > assert(study.is_keyed 'train.epochs' and not study.is_keyed 'train.threads')
function M.is_keyed(name)
  local last = name:match('[^.]+$')
  local tail = last:match('_(%a+)$')
  local is_path = tail == 'path' or tail == 'dir' or tail == 'folder' or tail == 'file'
  return not (unkeyed[last] or is_path)
end

--- study.stage(t): declares a stage.
-- t: name; version (1), raised when its results change; defaults, a plain option table; unkeyed,
-- a list of further options that cannot change results; sources, a list of further source files
-- whose hash is recorded; run(o, inputs, ctx), which returns a table of estimates for result.json.
-- ctx: dir; path(name), a file in it; checkpoint, where the trainer keeps its state, and resume,
-- that path when an earlier attempt left one, else nil; log{...}, a line of metrics.jsonl;
-- rewind(step), which drops the lines after a step; seeds, a table that result.json records; say.
-- Errors: a missing name or function.
-- Example:
-- > local study, root = require 'vestige.study', os.tmpname(); os.remove(root)
-- > local double = study.stage{ name = 'double', version = 1, defaults = { x = 1 },
-- >   run = function(o, inputs, ctx) ctx.log{ step = 1, loss = 0 } return { y = 2 * o.x } end }
-- > local s = study.new{ root = root, quiet = true }
-- > assert(s:run(double, { x = 4 }).estimates.y == 8)
-- > assert(not s:run(double, { x = 4 }).ran)
-- > require('vestige.fs').remove_tree(root, '/tmp')
function M.stage(t)
  if type(t.name) ~= 'string' or not t.name:find('^[%w_-]+$') then
    fail('stage: name must be a word, got %s', tostring(t.name))
  end
  if type(t.run) ~= 'function' then fail('stage %s: run must be a function', t.name) end
  local stage = { name = t.name, version = t.version or 1, defaults = t.defaults or {},
    run = t.run, sources = t.sources or {}, unkeyed = {} }
  for _, name in ipairs(t.unkeyed or {}) do stage.unkeyed[name] = true end
  return stage
end

-- What identifies an input: the key of a finished stage, or the hash of data.
local function identity(stage, name, input)
  if getmetatable(input) == Record then return input.key end
  local hash = type(input) == 'table' and input.hash
  if type(hash) == 'function' then hash = input:hash() end
  if type(hash) == 'string' then return hash end
  return fail('stage %s: input %s is neither a finished stage nor data with a hash',
    stage.name, name)
end

local function keyed(stage, flat)
  local out = {}
  for name, v in pairs(flat) do
    if M.is_keyed(name) and not stage.unkeyed[name] then out[name] = v end
  end
  return out
end

-- What the environment changes in results: convolutions without Winograd. The usual is not named.
local function arithmetic()
  local conv = vestige.info().conv
  return conv ~= 'winograd' and conv or nil
end

--- study.key(stage, given, inputs): the key of a stage with these options and inputs.
-- inputs: named; each a finished stage (its key counts) or data with a `hash`, a string or method.
-- Errors: as options.merge; an input that is neither.
-- Example:
-- > local study = require 'vestige.study'
-- > local stage = study.stage{ name = 'a', defaults = { x = 1, threads = 2 }, run = print }
-- > assert(study.key(stage, {}) == study.key(stage, { x = 1, threads = 4 }))
-- > assert(study.key(stage, {}) ~= study.key(stage, { x = 2 }))
function M.key(stage, given, inputs)
  local o = options.merge(stage.defaults, given or {}, { where = 'stage ' .. stage.name })
  local ids = {}
  for name, input in pairs(inputs or {}) do ids[name] = identity(stage, name, input) end
  local content = { stage = stage.name, version = stage.version, inputs = ids,
    options = keyed(stage, options.differing(stage.defaults, o)), conv = arithmetic() }
  return sha256.of(json.encode(content)), o, ids
end

local function source_of(stage)
  local files, hash = { debug.getinfo(stage.run, 'S').source }, sha256.new()
  for _, name in ipairs(stage.sources) do files[#files + 1] = '@' .. name end
  for _, source in ipairs(files) do
    local path = source:match('^@(.*)')
    hash:update(path and fs.exists(path) and sha256.file(path) or sha256.of(source))
  end
  return { file = files[1]:match('^@(.*)') or 'a chunk', hash = hash:hex() }
end

--- study.machine(): {cpu, cores, memory (GiB), system}, for result.json.
-- Example:
-- > assert(require('vestige.study').machine().cores >= 1)
function M.machine()
  local ok, cpu = pcall(fs.read, '/proc/cpuinfo')
  local _, memory = pcall(fs.read, '/proc/meminfo')
  local _, release = pcall(fs.read, '/proc/sys/kernel/osrelease')
  cpu = ok and cpu or ''
  local cores = select(2, ('\n' .. cpu):gsub('\nprocessor', ''))
  return {
    cpu = cpu:match('model name%s*:%s*([^\n]+)') or jit.arch,
    cores = math.max(cores, 1),
    memory = math.floor((tonumber(memory:match('MemTotal:%s*(%d+)')) or 0) / 2 ^ 20 + 0.5),
    system = ('%s %s'):format(jit.os, (release:gsub('%s+$', ''))),
  }
end

function Record:path(name) return self.dir .. '/' .. name end

function Record:config() return json.load(self:path 'config.json') end

function Record:metrics()
  local path, rows = self:path 'metrics.jsonl', {}
  if not fs.exists(path) then return rows end
  for line in fs.read(path):gmatch('([^\n]*)\n') do -- a torn last line has no newline
    rows[#rows + 1] = json.decode(line, ('%s, line %d'):format(path, #rows + 1))
  end
  return rows
end

local function record(dir, ran)
  local result = json.load(dir .. '/result.json')
  return setmetatable({ dir = dir, key = result.key, stage = result.stage, result = result,
    estimates = result.estimates, ran = ran or false }, Record)
end

--- study.status(dir): 'finished', 'running', 'failed', 'interrupted' or 'absent', and a message.
-- Example:
-- > assert(require('vestige.study').status('/no/such') == 'absent')
function M.status(dir)
  if fs.exists(dir .. '/result.json') then return 'finished' end
  if not fs.exists(dir .. '/config.json') then return 'absent' end
  if fs.exists(dir .. '/.lock') then
    local lock = fs.lock(dir .. '/.lock', { wait = false })
    if not lock then return 'running' end
    lock:release()
  end
  if not fs.exists(dir .. '/failed.json') then return 'interrupted' end
  local failed = json.load(dir .. '/failed.json')
  return failed.interrupted and 'interrupted' or 'failed', failed.message
end

--- study.read(dir): a finished stage's record, for reports and for scripts that only look.
-- Fields: dir, key, stage, estimates, result (all of result.json), ran; methods: path(name),
-- config() and metrics(), a list of rows.
-- Errors: a folder that is not a finished stage, with its state.
-- Example:
-- > assert(not pcall(require('vestige.study').read, '/no/such'))
function M.read(dir)
  local state, message = M.status(dir)
  if state ~= 'finished' then
    fail('%s is not a finished stage: %s%s', dir, state, message and ' (' .. message .. ')' or '')
  end
  return record(dir)
end

--- study.list(root, name): the records of the finished stages below a folder, oldest first.
-- name: only the stages of that name.
-- Example:
-- > assert(#require('vestige.study').list('/no/such') == 0)
function M.list(root, name)
  local out = {}
  if not fs.exists(root) then return out end
  for _, entry in ipairs(fs.list(root)) do
    local dir = root .. '/' .. entry
    if fs.exists(dir .. '/result.json') then
      local r = record(dir)
      if not name or r.stage == name then out[#out + 1] = r end
    end
  end
  table.sort(out, function(a, b) return a.result.finished < b.result.finished end)
  return out
end

local Study = {}
Study.__index = Study

--- study.new(t): where stages run. Returns a study with `study:run(stage, given, inputs)`.
-- t: root ('runs'); fresh (false): run stages again that finished before this study was made, or
-- before started (seconds since 1970);
-- quiet (false); command: the command line, for result.json; info: a table, or a function that
-- returns one, whose fields go to result.json (versions, backend, level; machine and conv, how
-- convolutions were computed, are filled in);
-- context(ctx, o, inputs): adds to each stage's ctx before it runs; poll(): called while waiting
-- for another process and may raise; say(text): prints a line (default: to standard error).
-- Example:
-- > local s = require('vestige.study').new{ root = 'runs', info = { backend = 'cpu' } }
-- > assert(s.root == 'runs')
function M.new(t)
  local study = setmetatable({ root = t.root or 'runs', fresh = t.fresh, command = t.command,
    info = t.info, context = t.context, poll = t.poll, started = t.started or fs.now(),
    told = {} }, Study)
  local say = t.say or function(text) io.stderr:write(text, '\n') end
  study.say = t.quiet and function() end or say
  return study
end

-- Prints a line once.
local function tell(study, text)
  if not study.told[text] then study.say(text) end
  study.told[text] = true
end

-- Whether the folder holds a result that serves; raises when it cannot be what was asked.
local function is_there(study, stage, dir, o, key, source)
  if not fs.exists(dir .. '/result.json') then return false end
  if study.fresh and json.load(dir .. '/result.json').finished_at < study.started then
    return false
  end
  local config, label = json.load(dir .. '/config.json'), fs.basename(dir)
  if config.key ~= key then fail('%s holds another stage (key %s)', dir, config.key) end
  local before, now = options.flatten(config.options), keyed(stage, options.flatten(o))
  for name, v in pairs(now) do
    if before[name] ~= nil and options.text(before[name]) ~= options.text(v) then
      fail('%s ran with %s = %s, and the default is now %s: raise the version of stage %s, or use '
        .. '--fresh', label, name, options.text(before[name]), options.text(v), stage.name)
    end
  end
  if config.source.hash ~= source.hash then
    tell(study, ('%s has changed since stages in %s ran; --fresh runs them again')
      :format(source.file, study.root))
  end
  return true
end

local function lock(study, dir)
  local said = -math.huge
  return fs.lock(dir .. '/.lock', {
    on_wait = function(seconds, holder)
      if study.poll then study.poll() end
      if seconds - said < 60 then return end
      said = seconds
      study.say(('%s: waiting for the process that runs it (%s)'):format(fs.basename(dir), holder))
    end,
  })
end

-- Empties the folder of an earlier attempt, its result first, so that no half of it looks whole.
local function clear(study, dir)
  fs.remove(dir .. '/result.json')
  for _, name in ipairs(fs.list(dir)) do
    if name ~= '.lock' then fs.remove_tree(dir .. '/' .. name, study.root) end
  end
end

local function rewind(path, step)
  if not fs.exists(path) then return end
  local kept = {}
  for line in fs.read(path):gmatch('[^\n]*\n') do
    if (json.decode(line, path).step or -math.huge) <= step then kept[#kept + 1] = line end
  end
  fs.write(path, table.concat(kept))
end

local function context(study, stage, dir, key, o)
  local start, metrics = fs.monotonic(), dir .. '/metrics.jsonl'
  local ctx = { stage = stage.name, key = key, dir = dir, say = study.say, seeds = {},
    checkpoint = dir .. '/checkpoint.safetensors' }
  for name, v in pairs(options.flatten(o)) do
    if name:find('seeds?$') then ctx.seeds[name] = v end
  end
  if fs.exists(ctx.checkpoint) then
    ctx.resume = ctx.checkpoint
    rewind(metrics, math.huge) -- a kill may have torn the last line
  end
  function ctx.path(name) return dir .. '/' .. name end
  function ctx.log(row)
    local line = { time = fs.monotonic() - start }
    for name, v in pairs(row) do line[name] = v end
    fs.append(metrics, json.encode(line) .. '\n')
  end
  function ctx.rewind(step) rewind(metrics, step) end
  return ctx
end

local function is_interrupt(err)
  if type(err) == 'table' then return err.interrupted and true or false end
  return tostring(err):find('interrupted', 1, true) ~= nil
end

-- Calls f; an error is recorded in the folder and raised again as it was.
local function attempt(dir, f)
  local trace
  local ok, out = xpcall(f, function(err)
    trace = debug.traceback(tostring(err), 2)
    return err
  end)
  if ok then return end
  pcall(json.save, dir .. '/failed.json', { message = tostring(out), traceback = trace,
    interrupted = is_interrupt(out), at = os.date('!%Y-%m-%dT%H:%M:%SZ') })
  error(out, 0)
end

local function finish(study, dir, started, seconds, fields)
  local info = study.info
  if type(info) == 'function' then info = info() end
  local now = fs.now()
  for name, v in pairs(info or {}) do
    if fields[name] == nil then fields[name] = v end
  end
  fields.machine = fields.machine or M.machine()
  fields.conv = fields.conv or vestige.info().conv
  fields.started = os.date('!%Y-%m-%dT%H:%M:%SZ', started)
  fields.finished = os.date('!%Y-%m-%dT%H:%M:%SZ', now)
  fields.finished_at, fields.seconds, fields.command = now, seconds, study.command
  json.save(dir .. '/result.json', fields)
end

--- study:run(stage, given, inputs): the record of a stage, run now if it is not there.
-- given: options over the stage's defaults; inputs: named, records of earlier stages or data with
-- a hash; they are handed to the stage's function as they are.
-- A finished stage is read. An attempt that was cut short is continued in its folder when it left
-- a checkpoint (ctx.resume), else begun again. While another process runs the stage this one
-- waits, and then reads. record.ran says whether it ran here. Fields: see study.read.
-- Errors: the stage's own, after failed.json was written; options; unwritable folders; a result
-- made with another default of an option.
function Study:run(stage, given, inputs)
  inputs = inputs or {}
  local key, o, ids = M.key(stage, given, inputs)
  local label = ('%s-%s'):format(stage.name, key:sub(1, 12))
  local dir, source = self.root .. '/' .. label, source_of(stage)
  if is_there(self, stage, dir, o, key, source) then return record(dir) end
  fs.mkdir(dir)
  local held = lock(self, dir)
  local ok, out = pcall(function()
    if is_there(self, stage, dir, o, key, source) then return record(dir) end
    local before = fs.exists(dir .. '/config.json') and json.load(dir .. '/config.json')
    local resumes = not self.fresh and before and fs.exists(dir .. '/checkpoint.safetensors')
    if not resumes then clear(self, dir) end
    if resumes and before.source.hash ~= source.hash then
      tell(self, ('%s: %s has changed since the checkpoint; --fresh starts over')
        :format(label, source.file))
    end
    fs.remove(dir .. '/failed.json')
    local started, start = fs.now(), fs.monotonic()
    local attempts = (resumes and before.attempts or 0) + 1
    json.save(dir .. '/config.json', { stage = stage.name, version = stage.version, key = key,
      options = o, inputs = ids, source = source, command = self.command, attempts = attempts })
    local ctx = context(self, stage, dir, key, o)
    if ctx.resume then self.say(label .. ': continues from its checkpoint') end
    attempt(dir, function()
      if self.context then self.context(ctx, o, inputs) end
      local estimates = stage.run(o, inputs, ctx) or {}
      finish(self, dir, started, fs.monotonic() - start, { stage = stage.name, key = key,
        version = stage.version, estimates = estimates, seeds = ctx.seeds, source = source,
        attempts = attempts })
    end)
    for _, name in ipairs(fs.list(dir)) do
      local path = dir .. '/' .. name
      if path:sub(1, #ctx.checkpoint) == ctx.checkpoint then fs.remove(path) end
    end
    return record(dir, true)
  end)
  held:release()
  if not ok then error(out, 0) end
  return out
end

return M
