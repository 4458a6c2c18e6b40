-- GPT-2 against the transformers library, from tests/golden/gpt2.safetensors (make_gpt2.py):
-- logits, loss and gradients in f64 within 1e-9, and in f32 an error of at most 4 times PyTorch's
-- own.
local ffi = require 'ffi'
local lu = require 'luaunit'
local cases = require 'tests.ops.cases'
local models = require 'vestige.models'
local vestige = require 'vestige'

local T = {}
local golden = vestige.load 'tests/golden/gpt2.safetensors'
local size = { layers = 2, heads = 4, width = 32, vocabulary = 97, positions = 24, dropout = 0 }
local BATCH, LENGTH = 2, 20

local function initial(name, shape, seed)
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  local u, data = cases.uniforms('init/' .. name, n, seed), ffi.new('double[?]', n)
  local shift = name:find('.ln_', 1, true) and name:find 'weight' and 1 or 0
  for i = 1, n do data[i - 1] = (u[i] * 2 - 1) * (#shape > 1 and 0.25 or 0.1)
    + (#shape > 1 and 0 or shift) end
  return vestige.from_data(data, shape, 'f64'):to 'f32'
end

local function tokens(seed)
  local u = cases.uniforms('ids', BATCH * LENGTH, seed)
  for i = 1, #u do u[i] = math.floor(u[i] * 97) end
  return vestige.tensor(u, { dtype = 'i64' }):reshape(BATCH, LENGTH)
end

local function model_of(seed, dtype)
  local m = models.gpt2(size):to(dtype)
  for name, p in m:named_parameters() do
    vestige.no_grad(p.copy_, p, initial(name, p:shape(), seed):to(dtype))
  end
  return m
end

local function run(seed, dtype)
  local m, ids = model_of(seed, dtype), tokens(seed)
  local out = { logits = m(ids):detach():to 'f64' }
  local loss = m:loss(ids)
  loss:backward()
  out.loss = loss:detach():to 'f64':reshape{ 1 }
  for name, p in m:named_parameters() do out['grad/' .. name] = p.grad:to 'f64' end
  return out
end

local function error_of(a, b) return ((a - b):norm() / b:norm()):item() end

function T.test_f64()
  local ours = run(1, 'f64')
  local count = 0
  for name, t in pairs(ours) do
    lu.assertTrue(error_of(t, golden[name]) < 1e-9, name)
    count = count + 1
  end
  lu.assertEquals(count, 2 + 2 + 2 * 12 + 2)
end

function T.test_f32()
  local sums, n = {}, golden['f32/loss']:size(1)
  for seed = 1, n do
    local exact, low = run(seed, 'f64'), run(seed, 'f32')
    for name, t in pairs(low) do
      local theirs = golden['f32/' .. name]:tolist()[seed]
      sums[name] = (sums[name] or 0) + math.log(math.max(error_of(t, exact[name]), 1e-9)
                                                / math.max(theirs, 1e-8))
    end
  end
  for name, sum in pairs(sums) do lu.assertTrue(math.exp(sum / n) <= 4, name) end
end

function T.test_embeddings_go_in_as_well()
  local m, ids = model_of(1, 'f64'), tokens(1)
  local x = m:embed(ids)
  lu.assertTrue(vestige.equal(m(ids), m:from_embedding(x)))
  local noise = vestige.randn(x:shape(), { dtype = 'f64' })
  lu.assertTrue(vestige.equal(m(ids, noise), m:from_embedding(x + noise)))
  -- A token does not see those after it.
  local last = vestige.full{ size = { BATCH, 1 }, value = 5, dtype = 'i64' }
  local other = vestige.cat({ ids:narrow(2, 1, LENGTH - 1), last }, 2)
  local a, b = m(ids):narrow(2, 1, LENGTH - 1), m(other):narrow(2, 1, LENGTH - 1)
  lu.assertTrue(vestige.allclose(a, b, { rtol = 1e-12, atol = 1e-12 }))
end

function T.test_second_gradients()
  local m, ids = model_of(1, 'f64'), tokens(1)
  local x = m:embed(ids):detach():requires_grad_()
  local function loss(e) return m:from_embedding(e):square():mean() end
  local g = vestige.grad(loss(x), x, { create_graph = true })
  local v = vestige.randn(x:shape(), { dtype = 'f64' })
  local hv = vestige.grad((g * v):sum(), x)
  local h = 1e-5
  local function grad_at(e) return vestige.grad(loss(e), e) end
  local plus = grad_at((x + v * h):detach():requires_grad_())
  local minus = grad_at((x - v * h):detach():requires_grad_())
  lu.assertTrue(error_of(hv, (plus - minus) / (2 * h)) < 1e-6)
end

function T.test_options_and_messages()
  lu.assertEquals(models.gpt2{ layers = 1, heads = 2, width = 8, vocabulary = 11,
                               positions = 4 }:numel(), 11 * 8 + 4 * 8 + (12 * 64 + 13 * 8) + 16)
  local function told(want, f, ...)
    local ok, text = pcall(f, ...)
    lu.assertFalse(ok)
    lu.assertStrContains(text, want)
  end
  told("did you mean '124m'", models.gpt2, { size = '124M' })
  told("did you mean 'layers'", models.gpt2, { layer = 3 })
  told('no multiple', models.gpt2, { width = 10, heads = 3, layers = 1 })
  told('the model has 24 positions', model_of(1, 'f32'), vestige.zeros({ 1, 25 },
                                                                        { dtype = 'i64' }))
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'gpt2', T } })
