-- Writes the cases of tests/ops as JSON, for the maker of the golden data.
-- luajit tests/golden/dump_cases.lua FILE
local json = require 'vestige.json'
local vestige = require 'vestige'
local cases = require 'tests.ops.cases'

local domain = {}
for _, row in ipairs(vestige.ops()) do domain[row.name] = row end

local function spec_of(spec, name, row, inplace)
  if spec == nil or spec == false then return { absent = true } end
  if type(spec) == 'number' then return { number = spec } end
  if spec.list then
    local list = {}
    for j, s in ipairs(spec.list) do
      list[j] = spec_of(s, ('%s.%d'):format(name, j), row, inplace)
    end
    return { list = json.array(list) }
  end
  local shape = {}
  for i, d in ipairs(spec) do shape[i] = d end
  local low, high = spec.low or row.domain[1], spec.high or row.domain[2]
  if not spec.low and low == 0 and high == 0 then low, high = -2, 2 end
  return { shape = json.array(shape), name = name, low = low, high = high,
           int = spec.int or false, bool = spec.bool or false, distinct = spec.distinct or false,
           dtype = spec.dtype, const = spec.const or inplace or false }
end

-- An empty table is an empty list in JSON.
local function options_of(opts)
  if not opts then return json.null end
  local out = {}
  for k, v in pairs(opts) do out[k] = type(v) == 'table' and json.array(v) or v end
  return out
end

local list = {}
for _, case in ipairs(cases.list) do
  local row = domain[case.op]
  if cases.is_golden(case, row) then
    local ins = {}
    for i = 1, #row.ins do
      ins[i] = spec_of(case[i], ('%s/%d'):format(case.name, i), row, row.ins[i].inplace)
    end
    list[#list + 1] = { op = case.op, name = case.name, ins = json.array(ins),
                        opts = options_of(case.opts),
                        grad = row.differentiable and not case.no_grad,
                        second = row.differentiable and not case.no_grad and not case.no_gradgrad }
  end
end
json.save(arg[1], { cases = json.array(list) })
