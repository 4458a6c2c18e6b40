-- Statistics of the audits, on plain arrays of numbers. Needs nothing but LuaJIT.
--
--   stats/special.lua      erf, log-gamma, incomplete gamma and beta, the normal distribution
--   stats/dist.lua         Student's t, chi-square, F, binomial, Kolmogorov and Smirnov
--   stats/inference.lua    moments, intervals, tests, Holm's correction, equivalence
--   stats/resample.lua     bootstrap and sign flips, driven by the caller's generator
--   stats/roc.lua          ROC curves, TPR at a false positive rate, AUC
--   stats/audit.lua        what the Gaussian audit adds: thresholds, trade-off curves, remaining
--                          signal
--
-- Every function of every file is a field of this module. Bad arguments raise an error that names
-- function, argument and what was expected.
local M = {}

for _, part in ipairs { 'special', 'dist', 'inference', 'resample', 'roc', 'audit' } do
  for name, value in pairs(require('vestige.stats.' .. part)) do
    if type(value) == 'function' then M[name] = value end
  end
end

return M
