-- GPT-2 (Radford et al., 2019): a decoder of pre-norm blocks, learned positions, a head tied to the
-- token embedding. Parameters are named as the `transformers` library names them.
local fail = require 'vestige.fail'
local nearest = require 'vestige.nearest'
local nn = require 'vestige.nn'
local vestige = require 'vestige'

local consume = nn.consume
local M = {}

--- gpt2.sizes: the published sizes.
M.sizes = {
  ['124m'] = { layers = 12, heads = 12, width = 768 },
  ['355m'] = { layers = 24, heads = 16, width = 1024 },
}

local defaults = { size = false, layers = 12, heads = 12, width = 768, vocabulary = 50257,
                   positions = 1024, dropout = 0.1 }

local function read_options(given)
  local o = {}
  for k, v in pairs(defaults) do o[k] = v end
  local size = given and given.size
  if size and not M.sizes[size] then
    fail("models.gpt2: no size '%s'%s", tostring(size), nearest.hint(tostring(size), M.sizes))
  end
  for k, v in pairs(size and M.sizes[size] or {}) do o[k] = v end
  for k, v in pairs(given or {}) do
    if defaults[k] == nil then
      fail("models.gpt2: unknown option '%s'%s", tostring(k), nearest.hint(tostring(k), defaults))
    end
    o[k] = v
  end
  if o.width % o.heads ~= 0 then
    fail('models.gpt2: width %d is no multiple of %d heads', o.width, o.heads)
  end
  return o
end

-- y = x W + b with W (in, out): the library's Conv1D, whose weights lie the other way round than a
-- Linear's.
local Conv1D = nn.class 'Conv1D'

function Conv1D:init(inputs, outputs, std)
  self.inputs, self.outputs = inputs, outputs
  self.weight = nn.parameter(vestige.zeros{ inputs, outputs })
  nn.init.normal_(self.weight, std)
  self.bias = nn.parameter(vestige.zeros{ outputs })
end

function Conv1D:forward(x) return x:linear(self.weight, self.bias, { tw = true }) end

function Conv1D:extra() return ('%d, %d'):format(self.inputs, self.outputs) end

-- x with dropout, where this module trains with some; x is consumed.
local function dropped(x, module)
  if not module.training or module.dropout == 0 then return x end
  return consume(x, vestige.dropout, module.dropout, true)
end

local Attention = nn.class 'Attention'

function Attention:init(o)
  self.heads, self.dropout = o.heads, o.dropout
  self.c_attn = Conv1D(o.width, 3 * o.width, 0.02)
  self.c_proj = Conv1D(o.width, o.width, 0.02 / math.sqrt(2 * o.layers))
end

function Attention:forward(x)
  local y = consume(self.c_attn(x), vestige.attention_qkv, self.heads, {
    is_causal = true, dropout_p = self.training and self.dropout or 0 })
  return dropped(consume(y, self.c_proj), self)
end

local MLP = nn.class 'MLP'

function MLP:init(o)
  self.dropout = o.dropout
  self.c_fc = Conv1D(o.width, 4 * o.width, 0.02)
  self.c_proj = Conv1D(4 * o.width, o.width, 0.02 / math.sqrt(2 * o.layers))
end

function MLP:forward(x)
  local y = consume(self.c_fc(x), vestige.gelu, 'tanh')
  return dropped(consume(y, self.c_proj), self)
end

local Block = nn.class 'Block'

function Block:init(o)
  self.ln_1 = nn.LayerNorm(o.width)
  self.attn = Attention(o)
  self.ln_2 = nn.LayerNorm(o.width)
  self.mlp = MLP(o)
end

function Block:forward(x)
  local middle = consume(consume(self.ln_1(x), self.attn), vestige.add, x)
  local y = consume(consume(self.ln_2(middle), self.mlp), vestige.add, middle)
  vestige.release(middle)
  return y
end

local Transformer = nn.class 'Transformer'

function Transformer:init(o)
  self.wte = nn.Embedding(o.vocabulary, o.width)
  self.wpe = nn.Embedding(o.positions, o.width)
  nn.init.normal_(self.wte.weight, 0.02)
  nn.init.normal_(self.wpe.weight, 0.02)
  local blocks = {}
  for i = 1, o.layers do blocks[i] = Block(o) end
  self.h = nn.Sequential(blocks)
  self.ln_f = nn.LayerNorm(o.width)
end

local GPT2 = nn.class 'GPT2'

function GPT2:init(o)
  o = read_options(o)
  self.positions, self.dropout = o.positions, o.dropout
  self.transformer = Transformer(o)
end

--- model:embed(ids): the embeddings (B,T,C) of token ids (B,T), i64, without positions.
function GPT2:embed(ids)
  return self.transformer.wte(ids)
end

--- model:features(x): the last block's normalised output (B,T,C) for embeddings x (B,T,C).
function GPT2:features(x)
  local t, length = self.transformer, x:size(2)
  if length > self.positions then
    fail('gpt2: %d tokens, the model has %d positions', length, self.positions)
  end
  x = dropped(x + t.wpe.weight:narrow(1, 1, length), self)
  return consume(consume(x, nn.through, t.h), t.ln_f)
end

--- model:from_embedding(x): the logits (B,T,V) for embeddings x (B,T,C).
function GPT2:from_embedding(x)
  return consume(self:features(x), vestige.linear, self.transformer.wte.weight)
end

--- model:forward(ids, noise): the logits (B,T,V) of token ids (B,T). noise (B,T,C) is added to the
-- embeddings, nil for none.
function GPT2:forward(ids, noise)
  local x = self:embed(ids)
  return self:from_embedding(noise and x + noise or x)
end

--- model:loss(ids): the mean cross entropy of each token given those before it.
function GPT2:loss(ids)
  local b, length, ignored = ids:size(1), ids:size(2), -100
  -- The last token of a row has none after it: its label is ignored, so that no logits are copied.
  local last = vestige.full({ b, 1 }, ignored, { dtype = 'i64' })
  local labels = vestige.cat({ ids:narrow(2, 2, length - 1), last }, 2):reshape(b * length)
  return self(ids):reshape(b * length, -1):cross_entropy(labels, { ignore_index = ignored })
end

--- models.gpt2{size='124m'|'355m', dropout=0.1} or {layers=, heads=, width=, vocabulary=50257,
-- positions=1024}: GPT-2 with random weights, N(0, 0.02^2), those that end a residual branch
-- divided by sqrt(2 layers) (section 2.3). `model(ids)` gives logits (B,T,V).
function M.new(o) return GPT2(o) end

return M
