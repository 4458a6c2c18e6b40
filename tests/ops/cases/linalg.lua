-- Products, linear, solving.
local list = {
  { op = 'matmul', { 2, 3 }, { 3, 4 } },
  { op = 'matmul', { 3, 2 }, { 3, 4 }, opts = { ta = true } },
  { op = 'matmul', { 2, 3 }, { 4, 3 }, opts = { tb = true } },
  { op = 'matmul', { 3, 2 }, { 4, 3 }, opts = { ta = true, tb = true } },
  { op = 'matmul', { 3 }, { 3 } },
  { op = 'matmul', { 3 }, { 3, 4 } },
  { op = 'matmul', { 3 }, { 4, 3 }, opts = { tb = true } },
  { op = 'matmul', { 2, 3 }, { 3 } },
  { op = 'matmul', { 3, 2 }, { 3 }, opts = { ta = true } },
  { op = 'matmul', { 3 }, { 2, 3, 2 } },
  { op = 'matmul', { 2, 2, 3 }, { 3 } },
  { op = 'matmul', { 2, 3, 2 }, { 3 }, opts = { ta = true } },
  { op = 'matmul', { 2, 2, 3 }, { 3, 2 } },
  { op = 'matmul', { 2, 3, 2 }, { 3, 2 }, opts = { ta = true } },
  { op = 'matmul', { 2, 2, 3 }, { 2, 3, 2 } },
  { op = 'matmul', { 2, 1, 2, 3 }, { 3, 2, 3 }, opts = { tb = true } },
  { op = 'matmul', { 2, 3 }, { 2, 1, 3, 2 } },
  { op = 'matmul', { 0, 3 }, { 3, 2 } },
  { op = 'matmul', { 2, 0 }, { 0, 2 } },
  { op = 'matmul', { 2, 0, 3 }, { 3, 2 } },
  { op = 'matmul', { 0, 2, 3 }, { 1, 3, 2 } },
  { op = 'matmul', { 3, 4, low = -9, high = 9, int = true },
    { 4, 2, low = -9, high = 9, int = true }, no_grad = 'integers', golden = false,
    why = 'an output of integers' },
  { op = 'linear', { 2, 3 }, { 4, 3 }, { 4 } },
  { op = 'linear', { 2, 3 }, { 4, 3 } },
  { op = 'linear', { 3 }, { 4, 3 }, { 4 } },
  { op = 'linear', { 2, 1, 3 }, { 2, 3 }, { 2 } },
  { op = 'linear', { 0, 3 }, { 2, 3 }, { 2 } },
  { op = 'linear', { 33, 40 }, { 37, 40 }, { 37 }, no_grad = 'big' },
  { op = 'linalg_solve', { 3, 3 }, { 3, 2 } },
  { op = 'linalg_solve', { 3, 3 }, { 3, 2 }, opts = { ta = true } },
  { op = 'linalg_solve', { 3, 3 }, { 2, 3 }, opts = { left = false } },
  { op = 'linalg_solve', { 3, 3 }, { 2, 3 }, opts = { left = false, ta = true } },
  { op = 'linalg_solve', { 3, 3 }, { 3 } },
  { op = 'linalg_solve', { 2, 2, 2 }, { 2, 2 } },
  { op = 'linalg_solve', { 2, 2, 2 }, { 2 } },
  { op = 'linalg_solve', { 2, 2 }, { 3, 2, 1 } },
  { op = 'linalg_solve', { 0, 0 }, { 0, 2 } },
  { op = 'linalg_solve', { 40, 40 }, { 40, 7 }, no_grad = 'big' },
  -- Ranges found by trial: with them these draws are positive definite.
  { op = 'linalg_cholesky', { 2, 2, low = 2, high = -1 } },
  { op = 'linalg_cholesky', { 3, 3, low = 4, high = -1 }, opts = { upper = true } },
  { op = 'linalg_cholesky', { 2, 1, 1, low = 1, high = 2 } },
  { op = 'linalg_cholesky', { 3, 3, low = 2, high = -1 } },
  { op = 'linalg_cholesky', { 0, 0 } },
  { op = 'mirror_lower', { 2, 3, 3 }, golden = false, why = 'hidden' },
  { op = 'mirror_lower', { 3, 3 }, opts = { adjoint = true }, golden = false, why = 'hidden' },
}
-- Over one tile, one block of rows, one piece of k, in every direction.
for _, size in ipairs { { 17, 33, 5 }, { 100, 50, 300 }, { 130, 300, 40 } } do
  local m, n, k = unpack(size)
  list[#list + 1] = { op = 'matmul', { m, k }, { k, n }, no_grad = 'big' }
  list[#list + 1] = { op = 'matmul', { k, m }, { n, k }, opts = { ta = true, tb = true },
                      no_grad = 'big' }
  list[#list + 1] = { op = 'matmul', { 3, m, k }, { 1, n, k }, opts = { tb = true },
                      no_grad = 'big' }
end
return list
