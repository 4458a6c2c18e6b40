-- The cases of the bench, declared once: ours.lua and theirs.py run them by their kind, bench.py
-- reads them as JSON (vestige tests/bench/cases.lua).
--
-- A case has job, name, kind and what its kind needs, and
--   group       the row of goals that it counts for
--   precisions  f32 and bf16, unless said
--   op          the operator whose bf16 kernel must be a fast one, or bf16 is skipped
--   needs       names in vestige without which the case is skipped
--   traffic     bytes, each operand once, where bandwidth is the bound and not arithmetic
--   layouts     images: PyTorch runs contiguous and channels_last
--   compile     false: torch.compile has nothing to do, it would call the same library routine
--   tolerance   relative difference that is allowed, by precision: of each result, the last
--               number for all that follow
--   memory      false: not measured
--   share       of its job's time; 1, unless said
--   autocast    bf16 is vestige.autocast's, with f32 parameters
--   alone       large: memory has no room for three copies, so PyTorch's processes end after it,
--               and time none for all variants: the default malloc comes first
local M = {}

local OPERATOR = { f32 = { 1e-5 }, bf16 = { 1e-2 } }
local FORWARD = { f32 = { 1e-4 }, bf16 = { 0.1 } }
-- The loss of a network and its gradients. A unit whose input is close to 0 falls on either side,
-- and one that does moves the gradients of ResNet-18's first layers by 1e-2 in f32, where PyTorch
-- is as far from its own f64; in bf16 it is 0.6 away.
local GRADIENT = { f32 = { 1e-5, 5e-2 }, bf16 = { 1e-2, 1 } }

local function case(job, name, kind, group, o)
  o.job, o.name, o.kind, o.group = job, name, kind, group
  o.precisions = o.precisions or { 'f32', 'bf16' }
  o.tolerance = o.tolerance or OPERATOR
  o.share = o.share or 1
  M[#M + 1] = o
end

-- ---- gemm: y (m,n) = a (m,k) b (k,n); t: the operand lies transposed ----
local function product(name, m, n, k, transposed, o)
  o.m, o.n, o.k = m, n, k
  o.ta, o.tb = transposed:sub(1, 1) == 't', transposed:sub(2) == 't'
  o.op = 'matmul'
  case('gemm', ('%s %s'):format(name, transposed), 'matmul',
       math.min(m, n, k) >= 1024 and 'matrix products, 1024 and up' or 'matrix products, others', o)
end

for size = 8, 12 do
  for _, transposed in ipairs { 'nn', 'nt', 'tn', 'tt' } do
    -- One of the products goes through torch.compile, to see that it changes nothing.
    product(('square %d'):format(2 ^ size), 2 ^ size, 2 ^ size, 2 ^ size, transposed,
            { compile = size == 10 and transposed == 'nn', share = size > 11 and 4 or 1 })
  end
end

-- Weights (in,out) as GPT-2 has them; the head's are the embedding's (vocabulary,width).
local T, VOCABULARY = 128, 50257
for _, model in ipairs { { '124m', 768 }, { '355m', 1024 } } do
  local c = model[2]
  for _, layer in ipairs { { 'attn', c, 3 * c }, { 'proj', c, c }, { 'fc', c, 4 * c },
                           { 'out', 4 * c, c }, { 'head', c, VOCABULARY } } do
    local name, i, o = ('gpt2 %s %s'):format(model[1], layer[1]), layer[2], layer[3]
    local head = layer[1] == 'head'
    product(name .. ' forward', T, o, i, head and 'nt' or 'nn', { compile = false })
    product(name .. ' input', T, i, o, head and 'nn' or 'nt', { compile = false })
    product(name .. ' weight', head and o or i, head and i or o, T, 'tn', { compile = false })
  end
end

-- ---- conv: the convolutions of ResNet-18 at batch 128, each with its two gradients ----
local BATCH = 128
-- PyTorch's weight gradient in bf16 is 1.3e-2 from its own f64, ours 1.7e-3.
local WEIGHT = { f32 = OPERATOR.f32, bf16 = { 4e-2 } }
local function convolution(width, size, c, out, kernel, stride)
  for _, what in ipairs { 'forward', 'input', 'weight' } do
    local fast = kernel == 3 and stride == 1
    local group = not fast and 'convolution, others'
      or what == 'weight' and '3x3 stride-1 convolution, weight gradient'
      or '3x3 stride-1 convolution, forward and input gradient'
    case('conv', ('conv w%d %dx%d %d-%d %dx%d/%d %s'):format(width, size, size, c, out, kernel,
                                                             kernel, stride, what), 'conv', group,
         { what = what, batch = BATCH, size = size, channels = c, out = out, kernel = kernel,
           stride = stride, layouts = true, tolerance = what == 'weight' and WEIGHT or nil,
           op = what == 'forward' and 'conv2d' or 'conv2d_' .. what,
           compile = fast and c == 64 and size == 32 and what == 'forward' })
  end
end

for _, w in ipairs { 64, 16 } do
  convolution(w, 32, 3, w, 3, 1)
  for stage = 0, 3 do
    local size, c = 32 / 2 ^ stage, w * 2 ^ stage
    convolution(w, size, c, c, 3, 1)
    if stage < 3 then
      convolution(w, size, c, 2 * c, 3, 2)
      convolution(w, size, c, 2 * c, 1, 2)
    end
  end
end

-- ---- What bandwidth bounds ----
local STREAM = 'norm, loss, optimiser, elementwise'
local IMAGES = { BATCH, 32, 32, 64 }
local image_bytes = 4 * BATCH * 32 * 32 * 64
local f32 = { 'f32' }

case('resnet', 'batch norm forward', 'batch_norm', STREAM,
     { what = 'forward', shape = IMAGES, traffic = 2 * image_bytes, layouts = true,
       op = 'batch_norm' })
case('resnet', 'batch norm backward', 'batch_norm', STREAM,
     { what = 'backward', shape = IMAGES, traffic = 3 * image_bytes, layouts = true,
       op = 'batch_norm_input' })
case('resnet', 'relu', 'relu', STREAM,
     { shape = IMAGES, traffic = 2 * image_bytes, op = 'relu' })
case('resnet', 'add', 'add', STREAM, { shape = IMAGES, traffic = 3 * image_bytes, op = 'add' })
-- Parameters and state are read and written, gradients read.
case('resnet', 'sgd 11m', 'optimiser', STREAM,
     { name_of = 'SGD', sizes = 62, numel = 180224, traffic = 5 * 4 * 62 * 180224,
       precisions = f32 })
case('resnet', 'loader 20000 images', 'loader', 'loader',
     { images = 20000, batch = BATCH, traffic = 5 * 20000 * 3072, precisions = f32,
       compile = false, memory = false })

-- ---- resnet ----
for _, w in ipairs { 64, 16 } do
  for _, what in ipairs { 'forward', 'step', 'input', 'match' } do
    local row = ({ step = 'ResNet-18 train step', input = 'ResNet-18 input gradient',
                   match = 'gradient-matching step' })[what] or 'ResNet-18 forward'
    local share = ({ forward = 4, step = 8, input = 6, match = 32 })[what]
    case('resnet', ('resnet18 w%d %s'):format(w, what), 'resnet18', row,
         { what = what, width = w, batch = BATCH, layouts = true,
           tolerance = what == 'forward' and FORWARD or GRADIENT,
           share = w == 64 and share or share / 2, autocast = true })
  end
end

-- ---- gpt2 ----
for _, size in ipairs { '124m', '355m' } do
  for _, what in ipairs { 'step', 'input' } do
    case('gpt2', ('gpt2 %s %s'):format(size, what), 'gpt2',
         what == 'step' and 'GPT-2 train step' or 'GPT-2 input gradient',
         { what = what, size = size, batch = size == '124m' and 8 or 4, time = T,
           vocabulary = VOCABULARY, needs = { 'models.gpt2' }, autocast = true,
           tolerance = { f32 = { 1e-5, 1e-3 }, bf16 = GRADIENT.bf16 }, -- gelu has no kink
           share = (size == '124m' and 7 or 10) * (what == 'step' and 1.6 or 1), alone = true })
  end
end
for _, t in ipairs { 128, 512, 1024 } do
  for _, what in ipairs { 'forward', 'backward' } do
    case('gpt2', ('attention causal t%d %s'):format(t, what), 'attention', 'attention',
         { what = what, batch = 8, heads = 12, time = t, size = 64,
           needs = { 'scaled_dot_product_attention' }, op = 'attention' })
  end
end
local rows, width = 8 * T, 768
-- PyTorch's sums for weight and bias are a tenth off in bf16.
local SUMMED = { f32 = OPERATOR.f32, bf16 = { 1e-2, 0.2 } }
for _, what in ipairs { 'forward', 'backward' } do
  local passes = what == 'forward' and 2 or 3
  case('gpt2', 'layer norm ' .. what, 'layer_norm', STREAM,
       { what = what, rows = 8 * rows, width = width, traffic = passes * 4 * 8 * rows * width,
         tolerance = SUMMED, needs = { 'layer_norm' }, op = 'layer_norm' })
  -- The forward pass reads the logits, the backward pass reads them and writes their gradient.
  case('gpt2', 'cross entropy 50257 ' .. what, 'cross_entropy', STREAM,
       { what = what, rows = rows, classes = VOCABULARY,
         traffic = (passes - 1) * 4 * rows * VOCABULARY, op = 'cross_entropy' })
end
case('gpt2', 'adamw 124m', 'optimiser', STREAM,
     { name_of = 'AdamW', sizes = 148, numel = 840000, traffic = 7 * 4 * 148 * 840000,
       precisions = f32 })

-- ---- small: a round is one operator or step; theirs has no scopes ----
local function small(name, kind, group, o)
  o.precisions, o.compile, o.memory = f32, false, false
  case('small', name, kind, group, o)
end

small('add 4x4 with tape, in a scope', 'small_add', '4x4 add with tape, in a scope',
      { tape = true, scope = true })
small('add 4x4 with tape, outside', 'small_add', '4x4 add with tape, outside', { tape = true })
small('add 4x4 without tape, in a scope', 'small_add', '4x4 add without tape', { scope = true })
small('add 4x4 without tape, outside', 'small_add', '4x4 add without tape', {})
small('matmul relu sum grad 4x4', 'small_grad', 'matmul-relu-sum-grad', {})
small('mlp 8-16-4 step, batch 32', 'small_mlp', 'small train step', {})
small('start-up', 'start_up', 'start-up, warm', { ours = '', theirs = 'import torch' })
small('start-up and a tensor', 'start_up', 'start-up, warm',
      { ours = 'vestige.zeros(1)', theirs = 'import torch; torch.zeros(1)' })

if arg and arg[0] and arg[0]:find 'bench/cases%.lua$' then
  print(require('vestige.json').encode(M))
end
return M
