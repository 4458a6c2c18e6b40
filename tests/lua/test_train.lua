-- slow: the trainer, its checkpoints, and what becomes of runs that are killed.
local lu = require 'luaunit'
local C = require('vestige.ffi').C
local context = require 'vestige.context'
local data = require 'vestige.data'
local fs = require 'vestige.fs'
local handle = require 'vestige.handle'
local models = require 'vestige.models'
local nn = require 'vestige.nn'
local optim = require 'vestige.optim'
local train = require 'vestige.train'
local vestige = require 'vestige'

local T, Killed = {}, {}
local root

local function set_up()
  root = os.tmpname()
  os.remove(root)
  fs.mkdir(root)
end

local function tear_down()
  C.vestige_clear_interrupt()
  C.vestige_fail_allocation(0)
  handle.no_retry = nil
  fs.remove_tree(root, '/tmp')
end
T.setUp, T.tearDown, Killed.setUp, Killed.tearDown = set_up, tear_down, set_up, tear_down

-- Two classes that a line separates.
local function points(n, seed)
  local g = vestige.generator(seed or 1, 'points')
  local x = vestige.randn({ n, 4 }, { generator = g })
  local labels = {}
  for i, row in ipairs(x:totable()) do labels[i] = row[1] + row[2] > 0 and 1 or 0 end
  return data.new({ x = x, y = vestige.tensor(labels, { dtype = 'i64' }) },
                  { classes = { 'below', 'above' } })
end

local function new_net() return models.mlp{ inputs = 4, hidden = { 8 }, classes = 2 } end
local function make(seed)
  return vestige.with_generator(vestige.generator(seed or 0, 'init'), new_net)
end

local function options(o)
  local all = { data = points(40), steps = 12, batch_size = 8, quiet = true, seed = 3, read = 4,
                optim = { name = 'sgd', lr = 0.1, momentum = 0.9 } }
  for k, v in pairs(o or {}) do all[k] = v end
  return all
end

local function state_of(model)
  local out = {}
  for name, t in pairs(model:state_dict()) do
    out[#out + 1] = name .. ' ' .. table.concat(t:tolist(), ' ')
  end
  table.sort(out)
  return table.concat(out, '\n')
end

local function message_of(...)
  local ok, err = pcall(...)
  lu.assertFalse(ok)
  return tostring(err)
end

-- ---- Training ----

function T.test_it_learns()
  local ds, test = points(200), points(200, 2)
  local model = make()
  local before = train.evaluate(model, test)
  local r = train(model, options{ data = ds, steps = 100, eval = test })
  lu.assertTrue(before.accuracy < 0.8)
  lu.assertTrue(r.accuracy > 0.9)
  lu.assertTrue(r.test_accuracy > 0.9)
  local after = train.evaluate(model, test)
  lu.assertEquals(after.accuracy, r.test_accuracy)
  lu.assertEquals(after.correct / after.n, after.accuracy)
  lu.assertEquals(r.steps, 100)
  lu.assertEquals(r.rows, 800)
end

-- The definition, by hand: the same batches, loss, gradients and steps.
function T.test_it_does_what_a_loop_by_hand_does()
  local ds, a, b = points(40), make(), make()
  local logged = {}
  train(a, options{ data = ds, schedule = { name = 'cosine' }, clip_norm = 0.5,
                    log = function(row) logged[#logged + 1] = row end })
  local opt = optim.SGD(b, { lr = 0.1, momentum = 0.9 })
  local rate = optim.schedule.cosine(0.1, { total = 12 })
  local losses, step = {}, 0
  for epoch = 0, 2 do
    for batch in ds:batches(8, { shuffle = true, seed = 3, epoch = epoch }) do
      if step == 12 then break end
      opt:set_lr(rate(step))
      step = step + 1
      local loss = b(batch.x):cross_entropy(batch.y)
      b:zero_grad()
      loss:backward()
      optim.clip_grad_norm_(b, 0.5)
      opt:step()
      losses[step] = loss:item()
    end
  end
  lu.assertEquals(state_of(a), state_of(b))
  lu.assertEquals(#logged, 3)
  lu.assertEquals(logged[2].step, 8)
  lu.assertAlmostEquals(logged[2].loss, (losses[5] + losses[6] + losses[7] + losses[8]) / 4, 1e-12)
  lu.assertEquals(logged[3].lr, rate(11))
end

function T.test_parts_weigh_their_losses()
  local ds = points(40)
  local retain, forget = ds:first(24), ds:subset{ rows = { 25, 26, 27, 28, 29, 30, 31, 32 } }
  local a, b = make(), make()
  train(a, options{ steps = 3, optim = { lr = 0.1 },
                    parts = { retain = retain, forget = { data = forget, weight = -0.5 } } })
  local opt = optim.SGD(b, { lr = 0.1 })
  local r = retain:batches(8, { shuffle = true, seed = 3 })
  for step = 0, 2 do
    local x, y = r(), forget:batches(8, { shuffle = true, seed = 3, epoch = step })()
    local loss = b(x.x):cross_entropy(x.y) + b(y.x):cross_entropy(y.y) * -0.5
    opt:step(vestige.grad(loss, opt:parameters()))
  end
  lu.assertEquals(state_of(a), state_of(b))
end

-- Products in bf16, weights and optimiser in f32; what was done by hand gives the same bits.
function T.test_autocast()
  local ds, a, b, plain = points(40), make(), make(), make()
  local r = train(a, options{ data = ds, steps = 60, autocast = 'bf16' })
  lu.assertTrue(r.loss < 0.4, r.loss)
  for name, p in a:named_parameters() do lu.assertEquals(p:dtype(), 'f32', name) end
  for name, t in pairs(r.optim:state_dict()) do
    if name:find 'momentum' then lu.assertEquals(t:dtype(), 'f32', name) end
  end
  local types = {}
  train(b, options{ data = ds, steps = 60, autocast = 'bf16', objective = function(m, parts)
    local logits = m(parts.data.x)
    local loss = logits:cross_entropy(parts.data.y)
    types[logits:dtype() .. ' ' .. loss:dtype()] = true
    return loss, logits, parts.data.y
  end })
  lu.assertEquals(types, { ['bf16 f32'] = true })
  lu.assertEquals(state_of(a), state_of(b))
  train(plain, options{ data = ds, steps = 60 })
  lu.assertNotEquals(state_of(plain), state_of(a))
  lu.assertEquals(vestige.ones{ 2, 2 }:matmul(vestige.ones{ 2, 2 }):dtype(), 'f32')
  lu.assertStrContains(message_of(train, a, options{ autocast = 'f16' }),
                       "expected 'bf16' or false, got f16")
end

-- A checkpoint of training in bf16 is not one of training in f32.
function T.test_autocast_belongs_to_the_run()
  local path = root .. '/checkpoint'
  train(make(), options{ autocast = 'bf16', checkpoint = path })
  lu.assertStrContains(message_of(train, make(), options{ checkpoint = path }), 'autocast bf16')
end

function T.test_masked_parameters_stay()
  local model = make()
  local before = model.fc.weight:tolist()
  local mask = vestige.ones{ 2, 8 }
  mask[1] = 0
  train(model, options{ mask = { ['fc.weight'] = mask },
                        optim = { lr = 0.1, momentum = 0.9, weight_decay = 0.1 } })
  local after = model.fc.weight:tolist()
  for i = 1, 8 do lu.assertEquals(after[i], before[i]) end
  local moved = 0
  for i = 9, 16 do moved = moved + (after[i] ~= before[i] and 1 or 0) end
  lu.assertEquals(moved, 8)
end

function T.test_flops_are_counted()
  local r = train(make(), options{ steps = 10 })
  local part = train(make(), options{ steps = 5 })
  lu.assertTrue(part.flops > 40 * (4 * 8 + 8 * 2) * 2)
  lu.assertAlmostEquals(r.flops / part.flops, 2, 1e-12)
  lu.assertEquals(C.vestige_profile(-1), 0)
end

function T.test_predict_and_evaluate_leave_the_model_alone()
  local ds, model = points(30), make():train()
  local before = state_of(model)
  local logits = train.predict(model, ds, { batch_size = 7 })
  lu.assertEquals(logits:shape(), { 30, 2 })
  lu.assertEquals(logits[11]:tolist(), model(ds.x)[11]:tolist())
  lu.assertTrue(model.training)
  lu.assertEquals(state_of(model), before)
  lu.assertFalse(logits:requires_grad())
end

function T.test_memory_is_flat()
  local at, model = {}, make()
  local function note(_, step)
    collectgarbage()
    at[step] = vestige.memory()
  end
  train(model, options{ steps = 60, on_gradients = note,
                        optim = { name = 'adamw', lr = 1e-3 } })
  lu.assertEquals(at[58].live, at[18].live) -- the same place in the window of four losses
  lu.assertEquals(at[58].tensors, at[18].tensors)
  lu.assertEquals(at[58].nodes, at[18].nodes)
end

function T.test_messages()
  local function bad(o, text)
    lu.assertStrContains(message_of(train, make(), options(o)), text)
  end
  bad({ epcohs = 3 }, "did you mean 'epochs'")
  bad({ batch_size = 0 }, 'batch_size')
  bad({ optim = { name = 'sdg' } }, "did you mean 'sgd'")
  bad({ optim = { name = 'sgd', learning = 1 } }, 'unknown option learning')
  bad({ schedule = { name = 'cosin' } }, "did you mean 'cosine'")
  bad({ loss = 'cross_entrop' }, "no loss 'cross_entrop'")
  bad({ drop_last = true, batch_size = 41 }, 'no whole batch of 41')
  bad({ mask = { ['fc.wieght'] = vestige.ones{ 2, 8 } } }, "did you mean 'fc.weight'")
  lu.assertStrContains(message_of(train, make(), { data = points(4) }), 'give epochs or steps')
  lu.assertStrContains(message_of(train, make(), { steps = 1 }), 'no data')
end

-- ---- Stopping and going on, in one process ----

function T.test_an_error_anywhere_closes_everything()
  handle.no_retry = true
  local model = make()
  local o = options{ steps = 3, loaders = 2, augment = {} }
  train(model, o)
  collectgarbage()
  collectgarbage()
  local before = vestige.memory()
  local tries, done = 0, false
  while not done do
    tries = tries + 1
    C.vestige_fail_allocation(tries)
    done = pcall(train, model, o)
    C.vestige_fail_allocation(0)
    lu.assertEquals(C.vestige_scope_current(), 0)
  end
  lu.assertTrue(tries > 100)
  collectgarbage()
  collectgarbage()
  local after = vestige.memory()
  lu.assertEquals({ after.live, after.tensors, after.nodes },
                  { before.live, before.tensors, before.nodes })
end

function T.test_an_interrupt_stops_at_the_step_and_goes_on()
  local whole = make()
  train(whole, options())
  local path = root .. '/c.safetensors'
  local model, last = make(), nil
  local ok, err = pcall(train, model, options{ checkpoint = path, every = 1e9,
    on_gradients = function(_, step) last = step end,
    -- The flag comes while a row is logged: between steps.
    log = function(row) if row.step == 8 then C.vestige_interrupt() end end })
  lu.assertFalse(ok)
  lu.assertStrContains(err, 'interrupted')
  lu.assertEquals(last, 8)
  lu.assertTrue(fs.exists(path))
  local other = make(9) -- its own start does not matter
  local r = train(other, options{ checkpoint = path })
  lu.assertTrue(r.resumed)
  lu.assertEquals(state_of(other), state_of(whole))
  -- A run that is over is not run again.
  local again = make(9)
  local steps = 0
  r = train(again, options{ checkpoint = path, on_gradients = function() steps = steps + 1 end })
  lu.assertEquals({ r.steps, steps }, { 12, 0 })
  lu.assertEquals(state_of(again), state_of(whole))
  -- Unless it is to start over, or is another one.
  train(make(), options{ checkpoint = path, fresh = true,
                         on_gradients = function() steps = steps + 1 end })
  lu.assertEquals(steps, 12)
  lu.assertStrContains(message_of(train, make(), options{ checkpoint = path, batch_size = 4 }),
                       'belongs to another run (batch_size 8')
end

function T.test_a_checkpoint_is_in_files_as_pytorch_has_it()
  local path = root .. '/c.safetensors'
  local ds = data.new{ x = vestige.rand{ 8, 4, 4, 3 }, y = vestige.zeros({ 8 }, { dtype = 'i64' }) }
  local net = nn.Sequential(nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(18, 2))
  train(net, options{ data = ds, checkpoint = path })
  local raw = vestige.load(path, { layout = 'memory' })
  lu.assertEquals(raw['model.0.weight']:shape(), { 2, 3, 2, 2 })
  lu.assertEquals(raw['optim.0.weight.momentum_buffer']:shape(), { 2, 3, 2, 2 })
  lu.assertEquals(raw['optim.0.weight.step']:item(), 12)
end

-- ---- The context's own loops ----

local function new_context(o)
  local t = { seed = 1, make = new_net, quiet = true,
              recipe = { epochs = 1, batch_size = 8, optim = { name = 'sgd', lr = 0.1 } } }
  for k, v in pairs(o or {}) do t[k] = v end
  return context.new(t)
end

function T.test_steps_have_scopes_and_a_budget()
  local ctx = new_context{ budget = 5 }
  local n, old = 0, nil
  for step in ctx:steps(9) do
    n = n + 1
    lu.assertEquals(step, n)
    if old then lu.assertFalse(old:alive()) end
    old = vestige.ones{ 3 } * 2
  end
  lu.assertEquals({ n, ctx.spent.steps }, { 5, 5 })
  lu.assertTrue(ctx.spent.flops >= 15)
  lu.assertEquals(C.vestige_scope_current(), 0)
  for _ in ctx:steps(3) do lu.fail 'the budget is spent' end
end

function T.test_break_and_errors_end_a_loop()
  local ctx = new_context()
  local t = ctx:call(function(a, c)
    lu.assertEquals(a, 'a')
    for step in c:steps(9) do
      if step == 3 then break end
    end
    return { kept = vestige.ones{ 2 } * 4 }
  end, 'a')
  lu.assertEquals(t.kept:tolist(), { 4, 4 })
  lu.assertEquals(C.vestige_scope_current(), 0)
  lu.assertEquals(ctx.spent.steps, 3)
  local err = message_of(ctx.call, ctx, function(c)
    for _ in c:steps(9) do error 'on purpose' end
  end)
  lu.assertStrContains(err, 'on purpose')
  lu.assertEquals(C.vestige_scope_current(), 0)
  lu.assertStrContains(message_of(ctx.steps, ctx, 3, { lable = 'x' }), "did you mean 'label'")
end

function T.test_streams_and_fresh_models_follow_the_seed()
  local a, b = new_context(), new_context()
  lu.assertEquals(state_of(a:fresh()), state_of(a:fresh()))
  a:rng 'poison'
  lu.assertEquals(vestige.rand({ 3 }, { generator = a:rng 'unlearn' }):tolist(),
                  vestige.rand({ 3 }, { generator = b:rng 'unlearn' }):tolist())
  lu.assertNotEquals(state_of(new_context{ seed = 2 }:fresh()), state_of(a:fresh()))
end

-- ---- Killed at random points, in processes of their own ----

local program = os.getenv 'VESTIGE' or 'build/vestige'

local function child(folder, words, before)
  local command = ('%s %s tests/lua/child/train.lua %s %s >/dev/null 2>%s/errors'):format(
    before or '', program, folder, words, root)
  local status = os.execute(command)
  return status >= 256 and status / 256 or status
end

local function outcome(folder)
  return fs.read(folder .. '/model') .. fs.read(folder .. '/metrics')
end

-- Starts the child again and again, stopped by `before(try)` each time, until a run gets through;
-- in the end the last words run it to its end.
local function until_done(name, tries, words, before)
  local folder, stopped, kept = root .. '/' .. name, 0, 0
  for try = 1, tries do
    local status = child(folder, words(try), before and before(try))
    if status == 0 then break end
    stopped = stopped + 1
    for _, stage in ipairs(fs.exists(folder) and fs.list(folder) or {}) do
      kept = kept + (fs.exists(folder .. '/' .. stage .. '/checkpoint.safetensors') and 1 or 0)
    end
  end
  lu.assertEquals(child(folder, '1 1'), 0, name .. ': ' .. fs.read(root .. '/errors'))
  return outcome(folder), stopped, kept
end

local want
local function expected()
  if not want then
    lu.assertEquals(child(root .. '/whole', '1 1'), 0, 'the uninterrupted run')
    want = outcome(root .. '/whole')
  end
  return want
end

local loaders, threads = { 1, 2, 4 }, { 1, 2 }
local function counts(try) return ('%d %d'):format(loaders[try % 3 + 1], threads[try % 2 + 1]) end

local dice = 12345
local function random(n)
  dice = (dice * 1103515245 + 12345) % 2 ^ 31
  return math.floor(dice / 2 ^ 31 * n)
end

function Killed.test_loaders_and_threads_change_nothing()
  local whole = expected()
  for _, words in ipairs { '2 2', '4 1', '0 2' } do
    lu.assertEquals(child(root .. '/x' .. words:gsub(' ', ''), words), 0)
    lu.assertTrue(outcome(root .. '/x' .. words:gsub(' ', '')) == whole)
  end
end

-- Struck in the middle of a step, at a random step of each process.
local function struck(mode)
  local whole, stops, saved = expected(), 0, 0
  for round = 1, 3 do
    local got, stopped, kept = until_done(mode .. round, 8, function(try)
      return ('%s %s %d'):format(counts(try), mode, 1 + random(20))
    end)
    lu.assertTrue(got == whole)
    stops, saved = stops + stopped, saved + kept
  end
  lu.assertTrue(stops > 3)
  lu.assertTrue(saved > 3)
end

function Killed.test_kill_inside_steps() struck 'kill' end

function Killed.test_ctrl_c_inside_steps() struck 'int' end

-- Anywhere: between steps, while a file is written, before the first step.
function Killed.test_kill_at_any_time()
  local whole = expected()
  for _, signal in ipairs { 'KILL', 'INT' } do
    local got = until_done('any' .. signal, 8, counts, function()
      return ('timeout -s %s 0.%03d'):format(signal, 40 + random(400))
    end)
    lu.assertTrue(got == whole)
  end
end

function Killed.test_out_of_memory()
  local got, stops = until_done('oom', 30, function(try)
    return counts(try) .. (' oom %d'):format(100 + random(2000))
  end)
  lu.assertTrue(got == expected())
  lu.assertTrue(stops > 5)
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'train', T }, { 'killed', Killed } })
