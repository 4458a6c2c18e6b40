--- Products made of matmul and mul: M.name(vestige) returns vestige.name, which is a method too.
-- Their gradients are those of the operators, to any order.
local raise = require 'vestige.fail'

local M = {}

-- Raises unless x has `ndim` dimensions.
local function expect(what, name, x, ndim)
  if x:dim() ~= ndim then
    raise(('%s: %s: expected a tensor of %d dimension%s, got one of %d'):format(what, name, ndim,
          ndim == 1 and '' or 's', x:dim()))
  end
end

local function product(what, na, nb)
  return function(vestige)
    return function(a, b)
      expect(what, 'a', a, na)
      expect(what, 'b', b, nb)
      return vestige.matmul(a, b)
    end
  end
end

--- vestige.mm(a, b): the product of two matrices.
M.mm = product('mm', 2, 2)
--- vestige.bmm(a, b): the products of two batches of matrices (n,m,k) and (n,k,l).
M.bmm = product('bmm', 3, 3)
--- vestige.mv(a, b): the product of a matrix and a vector.
M.mv = product('mv', 2, 1)
--- vestige.dot(a, b): the sum of the products of two vectors' elements.
M.dot = product('dot', 1, 1)

function M.outer(vestige)
  --- vestige.outer(a, b): the products of all elements of the vector a with all of b: a matrix.
  return function(a, b)
    expect('outer', 'a', a, 1)
    expect('outer', 'b', b, 1)
    return vestige.mul(a:reshape(-1, 1), b)
  end
end

function M.inverse(vestige)
  --- vestige.inverse(a): the inverse of each matrix of a (...,n,n); a singular one is an error.
  return function(a)
    if a:dim() < 2 or a:size(-1) ~= a:size(-2) then
      raise('inverse: expected square matrices, got a tensor of shape ('
            .. table.concat(a:shape(), ',') .. ')')
    end
    local n, rows = a:size(-1), {}
    for i = 1, n do
      rows[i] = {}
      for j = 1, n do rows[i][j] = i == j and 1 or 0 end
    end
    local identity = vestige.tensor(rows, { dtype = a:dtype(), device = a:device() })
    return vestige.linalg_solve(a, identity:reshape(n, n))
  end
end

return M
