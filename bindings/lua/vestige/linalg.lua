--- vestige.linalg: solving and factoring, by PyTorch's names.
-- solve(a, b, {left=}), cholesky(a, {upper=}), inv(a).
local vestige = require 'vestige'

return { solve = vestige.linalg_solve, cholesky = vestige.linalg_cholesky, inv = vestige.inverse }
