-- Solving and factoring beyond the sizes of the registry loop, the messages of matrices that cannot
-- be factored, and what runs when there is no BLAS.
local lu = require 'luaunit'
local vestige = require 'vestige'

local T = {}

local function in_scope(f)
  return function() vestige.scope(f) end
end

local function worst(a, b)
  return vestige.amax((a - b):abs()):item()
end

-- x x' + n 1, positive definite
local function definite(n, options)
  local x = vestige.randn({ n, n }, options)
  local rows = {}
  for i = 1, n do
    rows[i] = {}
    for j = 1, n do rows[i][j] = i == j and n or 0 end
  end
  return vestige.matmul(x, x, { tb = true }) + vestige.tensor(rows, options)
end

T.test_cholesky = in_scope(function()
  for _, case in ipairs{ { 'f64', 150, 1e-11 }, { 'f32', 60, 2e-4 } } do
    local a = definite(case[2], { dtype = case[1] })
    local l = vestige.linalg.cholesky(a)
    lu.assertTrue(worst(vestige.matmul(l, l, { tb = true }), a) < case[3])
    local u = vestige.linalg.cholesky(a, { upper = true })
    lu.assertTrue(worst(vestige.matmul(u, u, { ta = true }), a) < case[3])
  end
end)

T.test_solve = in_scope(function()
  for _, case in ipairs{ { 'f64', 150, 1e-10 }, { 'f32', 60, 1e-3 } } do
    local o = { dtype = case[1] }
    local a, b = definite(case[2], o), vestige.randn({ case[2], 7 }, o)
    local x = vestige.linalg.solve(a, b)
    lu.assertTrue(worst(vestige.matmul(a, x), b) < case[3])
    lu.assertTrue(worst(vestige.matmul(a, vestige.inverse(a)), vestige.inverse(a):matmul(a))
                  < case[3])
  end
end)

-- The third matrix of a batch is the one at fault.
T.test_messages = in_scope(function()
  for _, device in ipairs{ 'cpu', 'ref' } do
    for _, dtype in ipairs{ 'f32', 'f64' } do
      local o = { dtype = dtype, device = device }
      local a = vestige.tensor({ { { 1, 0 }, { 0, 1 } }, { { 2, 0 }, { 0, 2 } },
                                 { { 1, 1 }, { 1, 1 } } }, o)
      lu.assertErrorMsgContains('linalg_solve: matrix 3 of a is singular', vestige.linalg.solve, a,
                                vestige.ones({ 2, 1 }, o))
      local b = vestige.tensor({ { { 1, 0 }, { 0, 1 } }, { { 2, 0 }, { 0, 2 } },
                                 { { 1, 2 }, { 2, 1 } } }, o)
      lu.assertErrorMsgContains('linalg_cholesky: matrix 3 of a is not positive definite',
                                vestige.linalg.cholesky, b)
    end
  end
  lu.assertErrorMsgContains('square matrices', vestige.linalg.solve, vestige.ones(2, 3),
                            vestige.ones(2))
  lu.assertErrorMsgContains('expected 2 rows', vestige.linalg.solve, vestige.ones(2, 2),
                            vestige.ones(3))
  lu.assertErrorMsgContains('ta transposes a matrix', vestige.matmul, vestige.ones(2),
                            vestige.ones(2, 2), { ta = true })
end)

T.test_products_by_name = in_scope(function()
  local a, b = vestige.tensor{ 1, 2 }, vestige.tensor{ 3, 4 }
  lu.assertEquals(vestige.dot(a, b):item(), 11)
  lu.assertEquals(vestige.outer(a, b):totable(), { { 3, 4 }, { 6, 8 } })
  lu.assertEquals(vestige.mv(vestige.outer(a, b), a):tolist(), { 11, 22 })
  lu.assertErrorMsgContains('mm: b: expected a tensor of 2 dimensions', vestige.mm,
                            vestige.ones(2, 2), b)
end)

-- A library that is not there: plain loops give the same numbers, and info() says why.
function T.test_without_blas()
  local program = os.getenv 'VESTIGE' or 'luajit'
  local script = os.tmpname()
  local file = assert(io.open(script, 'w'))
  file:write [[
    local vestige = require 'vestige'
    vestige.manual_seed(5)
    local o = { dtype = 'f64' }
    local a, x = vestige.randn({40, 50}, o), vestige.randn({2, 6, 6, 3}, o)
    local w = vestige.randn({4, 3, 3, 3}, o)
    print(('%.10g'):format(vestige.matmul(a, a, { tb = true }):sum():item()))
    print(('%.10g'):format(vestige.conv2d(x, w, { padding = 1 }):sum():item()))
    print(vestige.info().blas)
  ]]
  file:close()
  local function run(blas)
    local pipe = io.popen(('VESTIGE_BLAS=%s %s %s'):format(blas, program, script))
    local lines = { pipe:read '*l', pipe:read '*l', pipe:read '*l' }
    pipe:close()
    return lines
  end
  local with, without = run '', run '/no/such/library.so'
  os.remove(script)
  lu.assertEquals(with[1], without[1])
  lu.assertEquals(with[2], without[2])
  lu.assertStrContains(without[3], 'none, plain loops run in f64')
end

os.exit(lu.LuaUnit.new():runSuiteByInstances{ { 'Linalg', T } })
