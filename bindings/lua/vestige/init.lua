--- Vestige: tensors, gradients, and audits of machine unlearning.
-- vestige.zeros{2,3} makes a tensor, x:sum() and vestige.sum(x) are the same operator,
-- vestige.grad(loss, inputs) differentiates. help(x) tells about anything; vestige.ops() lists the
-- operators. vestige.nn, vestige.optim, vestige.data and the rest load when they are named.
local ffi = require 'ffi'
local base = require 'vestige.ffi'
local handle = require 'vestige.handle'
local call = require 'vestige.call'
local compile = require 'vestige.compile'
local tensor = require 'vestige.tensor'
local autograd = require 'vestige.autograd'
local random = require 'vestige.random'
local C, check = base.C, base.check

local M = {}

-- ---- Operators: their functions are made when they are first named ----
local rows, named, by_function = {}, {}, {}
for op = 0, check(C.vestige_op_count()) - 1 do
  local row = call.read_row(op)
  rows[op + 1], named[row.name] = row, row
end

local ops = setmetatable({}, { __index = function(t, name)
  local row = named[name]
  if not row then return nil end
  local f = compile.compile(row)
  t[name], by_function[f] = f, row
  return f
end })

-- The function of an operator that is offered as one, now in table t.
local function offer(t, name)
  local row = named[name]
  if not row or row.hidden then return nil end
  rawset(t, name, ops[name])
  return ops[name]
end

-- Operators are made and modules load when they are first named: vestige.nn is vestige/nn.
setmetatable(M, {
  __index = function(t, name)
    if type(name) ~= 'string' then return nil end
    local f = offer(t, name)
    if f then return f end
    local module = 'vestige.' .. name
    if package.loaded[module] == nil and not package.searchpath(module, package.path) then
      return nil
    end
    local value = require(module)
    rawset(t, name, value)
    return value
  end,
})

tensor.methods.backward = autograd.backward
tensor.methods.register_hook = autograd.register_hook
for name, make in pairs(require 'vestige.composites') do
  M[name] = make(M)
  by_function[M[name]] = by_function[M[name]] or named[name]
  tensor.methods[name] = tensor.methods[name] or M[name]
end
setmetatable(tensor.methods, { __index = offer })
tensor.install(ops)
M._ops = ops

-- Makes the functions of all operators: before their names are listed.
function M._name_all()
  for _, row in ipairs(rows) do
    if not row.hidden then
      assert(M[row.name] and tensor.methods[row.name])
    end
  end
end

--- vestige.ops(): the operators' rows, a list of tables with name, doc, ins, outs, options.
function M.ops()
  return rows
end

--- vestige.op_of(f): the row behind an operator's function, or nil.
function M.op_of(f)
  return by_function[f]
end

M.kernels = require 'vestige.coverage'(rows)

-- ---- The rest of the interface, from the files that hold it ----
M.tensor, M.from_data = tensor.tensor, tensor.from_data
M.scope, M.keep, M.release, M.is_tensor = handle.scope, handle.keep, handle.release,
                                          handle.is_tensor
M.memory, M.collect = handle.memory, handle.collect
M.open_scope, M.close_scope = handle.open_scope, handle.close_scope
for name, f in pairs(autograd) do
  if name ~= 'backward' and name ~= 'register_hook' then M[name] = f end
end
M.manual_seed, M.generator = random.manual_seed, random.generator
M.with_generator = random.with_generator
for name, make in pairs(require 'vestige.products') do
  M[name] = make(M)
  by_function[M[name]] = by_function[M[name]] or by_function[ops[name]]
  tensor.methods[name] = M[name]
end

--- vestige.set_num_threads(n): how many threads compute; results do not depend on it.
function M.set_num_threads(n)
  check(C.vestige_set_threads(n))
end

--- vestige.get_num_threads(): how many threads compute.
function M.get_num_threads()
  return C.vestige_threads()
end

--- vestige.empty_cache(): gives cached memory back to the system, and kept forms of weights.
function M.empty_cache()
  handle.sweep()
  C.vestige_empty_cache()
end

--- vestige.set_weight_cache(bytes): how many bytes of transformed weights may be kept.
-- Winograd's convolutions transform their weights. Weights that are used again without having
-- changed, as in an attack on a frozen model, are transformed once; what a train step uses once is
-- not kept. Results are the same bits. The start has VESTIGE_WEIGHT_CACHE MiB, or 320; 0: none.
-- vestige.memory().kept tells how many are in use, vestige.empty_cache() drops them.
-- @example
-- > vestige.set_weight_cache(64 * 2^20)
-- > assert(vestige.info()['weight cache'] == '64 MiB' and vestige.memory().kept <= 64 * 2^20)
-- > vestige.set_weight_cache(320 * 2^20)
function M.set_weight_cache(bytes)
  if type(bytes) ~= 'number' or not (bytes >= 0 and bytes < 2^53) then
    base.raise('set_weight_cache: expected bytes from 0 on, got %s', tostring(bytes))
  end
  C.vestige_weight_cache(bytes)
end

--- vestige.reset_peak(): the peak of vestige.memory() starts from what is live now.
function M.reset_peak()
  C.vestige_reset_peak()
end

--- vestige.info(): version, processor level (VESTIGE_ISA caps it), conv (winograd, or direct by
-- VESTIGE_CONV=direct), weight cache (VESTIGE_WEIGHT_CACHE), threads and compiler, as a table.
function M.info()
  local t = {}
  for k, v in ffi.string(C.vestige_build_info()):gmatch '([^\n:]+): ([^\n]*)\n' do t[k] = v end
  t.threads = tonumber(t.threads)
  return t
end

M.version = M.info().version

--- vestige.gradcheck and vestige.gradgradcheck: see vestige.gradcheck's file.
function M.gradcheck(...) return require('vestige.gradcheck').gradcheck(...) end
--- vestige.gradgradcheck(fn, inputs, options): see vestige.gradcheck.
function M.gradgradcheck(...) return require('vestige.gradcheck').gradgradcheck(...) end

--- vestige.load(path, options): the tensors of a safetensors file, see vestige.io.load.
function M.load(...) return require('vestige.io').load(...) end
--- vestige.save(path, tensors, options): writes a safetensors file, see vestige.io.save.
function M.save(...) return require('vestige.io').save(...) end

return M
