-- The cases on which every operator is tried, and how their inputs are made.
--
-- cases/<family>.lua returns a list; a case is { op='name', input, ..., opts={...} }. An input is
--   {2,3}                      a float tensor, uniform in the row's domain
--   {2,3, low=-1, high=1}      in another domain
--   {4, int=true, low=0, high=9, dtype='i64'}  whole numbers, low to high inclusive
--   {5, distinct=true}         evenly spaced values in random order: no ties, no near ties
--   {4, bool=true}
--   {3, const=true}            a float tensor that gets no gradient (inputs changed in place never
-- do)   2.5                        a number
--   false                      an optional input left out
--   {list={ {2}, {3} }}        a list of tensors
-- Fields of a case: opts; no_grad='reason' (not differentiable here); no_gradgrad='reason';
-- tolerance={f32=, bf16=, f64=} with why='...'; dtypes={...} for the comparison with ref;
-- step= for finite differences; golden=false with why= where PyTorch has no counterpart.
--
-- Values are a formula of the Philox stream (1, "op/case/input"), which the maker of the golden
-- data computes too.
local ffi = require 'ffi'
local vestige = require 'vestige'
local base = require 'vestige.ffi'

local M = {}

local function load_all(dir)
  local list = {}
  local pipe = io.popen('ls "' .. dir .. '"/cases/*.lua')
  for path in pipe:lines() do
    for _, case in ipairs(dofile(path)) do list[#list + 1] = case end
  end
  pipe:close()
  local count = {}
  for _, case in ipairs(list) do
    count[case.op] = (count[case.op] or 0) + 1
    case.name = case.op .. '/' .. count[case.op]
  end
  return list
end

local here = debug.getinfo(1, 'S').source:match '^@(.*)/[^/]*$'
M.list = load_all(here)

-- n uniforms in [0,1) with 53 bits, of the stream (seed, name); seed defaults to 1.
function M.uniforms(name, n, seed)
  local key = base.C.vestige_stream_key(seed or 1, name)
  local k = ffi.new('uint32_t[2]', tonumber(key % 2^32), tonumber(key / 2ULL^32))
  local word, counter = ffi.new 'uint32_t[4]', ffi.new 'uint32_t[4]'
  local u = {}
  for i = 0, n - 1 do
    counter[0] = math.floor(i / 2)
    base.C.vestige_philox(word, counter, k)
    local j = i % 2 * 2
    local high, low = tonumber(word[j + 1]), tonumber(word[j])
    u[i + 1] = (high * 2^21 + math.floor(low / 2^11)) * 2^-53
  end
  return u
end

local function values(spec, name, domain)
  local n = 1
  for _, d in ipairs(spec) do n = n * d end
  local u = M.uniforms(name, n)
  if spec.bool then
    for i = 1, n do u[i] = u[i] < 0.5 and 1 or 0 end
    return u, n
  end
  local low, high = spec.low or domain[1], spec.high or domain[2]
  if not spec.low and low == 0 and high == 0 then low, high = -2, 2 end
  if spec.int then
    for i = 1, n do u[i] = low + math.floor(u[i] * (high - low + 1)) end
  elseif spec.distinct then
    local order = {}
    for i = 1, n do order[i] = i end
    table.sort(order, function(a, b) return u[a] < u[b] end)
    for rank = 1, n do u[order[rank]] = low + (high - low) * (rank - 0.5) / n end
  else
    for i = 1, n do u[i] = low + (high - low) * u[i] end
  end
  return u, n
end

local function make(spec, name, domain, dtype, device)
  if type(spec) == 'number' then return spec end
  local u, n = values(spec, name, domain)
  local shape = {}
  for i, d in ipairs(spec) do shape[i] = d end
  local data = ffi.new('double[?]', math.max(n, 1))
  for i = 1, n do data[i - 1] = u[i] end
  local t = vestige.from_data(data, shape, 'f64')
  local to = spec.dtype or spec.bool and 'bool' or spec.int and 'i64' or dtype
  if to ~= 'f64' then t = t:to(to) end
  if device ~= 'cpu' then t = t:to(device) end
  return t
end

local function elements(spec)
  if type(spec) ~= 'table' then return 0 end
  local n = 1
  if spec.list then
    n = 0
    for _, s in ipairs(spec.list) do n = n + elements(s) end
    return n
  end
  for _, d in ipairs(spec) do n = n * d end
  return n
end

--- Whether PyTorch's numbers of a case are kept: it is drawn from no stream, has a counterpart, and
-- is small.
function M.is_golden(case, row)
  local n = elements((case.opts or {}).size)
  for i = 1, #row.ins do n = n + elements(case[i]) end
  return case.golden ~= false and not row.random and n <= 500
end

--- The arguments of a case, in a float type on a device: a function that calls the operator on the
-- float tensors and returns its results and what it changed in place; those tensors; the row.
function M.build(case, dtype, device)
  local row
  for _, r in ipairs(vestige.ops()) do
    if r.name == case.op then row = r end
  end
  if not row then error('no operator ' .. case.op) end
  local args, floats, is_float, changed = {}, {}, {}, {}
  local function add(spec, name, inplace)
    local t = make(spec, name, row.domain, dtype, device)
    if inplace then
      changed[#changed + 1] = t
    elseif vestige.is_tensor(t) and t:dtype() == dtype and not spec.const then
      floats[#floats + 1], is_float[t] = t, true
    end
    return t
  end
  local n = #row.ins
  for i = 1, n do
    local spec = case[i]
    if type(spec) == 'table' and spec.list then
      args[i] = {}
      for j, s in ipairs(spec.list) do
        args[i][j] = add(s, ('%s/%d.%d'):format(case.name, i, j), row.ins[i].inplace)
      end
    elseif spec == false or spec == nil then
      args[i] = false
    else
      args[i] = add(spec, ('%s/%d'):format(case.name, i), row.ins[i].inplace)
    end
  end
  local f = vestige._ops[case.op]
  local opts = case.opts
  if row.creates or row.random then
    opts = {}
    for k, v in pairs(case.opts or {}) do opts[k] = v end
  end
  if row.creates then
    opts.device = device
    if row.by_name.dtype and not opts.dtype then opts.dtype = dtype end
  end
  local function run(...)
    if row.random then opts.generator = vestige.generator(3, case.name) end -- the same draws again
    local given = { ... }
    local at = 0
    local function swap(t)
      if vestige.is_tensor(t) and is_float[t] then
        at = at + 1
        return given[at]
      end
      return t or nil
    end
    local final = {}
    for i = 1, n do
      if type(args[i]) == 'table' then
        final[i] = {}
        for j, t in ipairs(args[i]) do final[i][j] = swap(t) end
      else
        final[i] = swap(args[i])
      end
    end
    local last = n
    if opts then
      last = n + 1
      final[last] = opts
    end
    if #changed == 0 then return f(unpack(final, 1, last)) end
    local results = { f(unpack(final, 1, last)) }
    if #row.outs == 0 then results = {} end
    for _, t in ipairs(changed) do results[#results + 1] = t end
    return unpack(results)
  end
  return run, floats, row
end

return M
