-- Numbers as tables and reports print them.

local M = {}

--- format.number(v, digits): v with that many digits (3) after the point; nil as -.
-- Example:
-- > assert(require('vestige.format').number(0.12345) == '0.123')
function M.number(v, digits)
  return v and ('%.' .. (digits or 3) .. 'f'):format(v) or '-'
end

--- format.probability(p): a p-value, with an exponent below 0.001.
-- Example:
-- > local format = require 'vestige.format'
-- > assert(format.probability(0.25) == '0.250' and format.probability(2e-8) == '2e-08')
function M.probability(p)
  if p >= 0.001 then return M.number(p) end
  return p < 1e-300 and '< 1e-300' or ('%.0e'):format(p)
end

--- format.interval(t, digits): {estimate, lo, hi} as 0.50 [0.40, 0.60]; without lo, the estimate.
-- Example:
-- > local format = require 'vestige.format'
-- > assert(format.interval({ estimate = 0.5, lo = 0.4, hi = 0.6 }, 1) == '0.5 [0.4, 0.6]')
-- > assert(format.interval({ estimate = 0.5 }, 1) == '0.5')
function M.interval(t, digits)
  if not t.lo then return M.number(t.estimate, digits) end
  return ('%s [%s, %s]'):format(M.number(t.estimate, digits), M.number(t.lo, digits),
                                M.number(t.hi, digits))
end

--- format.bytes(n): a size, such as 1.5 MB: powers of 1000, three digits.
-- Example:
-- > local format = require 'vestige.format'
-- > assert(format.bytes(999) == '999 B' and format.bytes(1.5e6) == '1.5 MB')
function M.bytes(n)
  local units, i = { 'B', 'kB', 'MB', 'GB', 'TB' }, 1
  while n >= 999.5 and i < #units do n, i = n / 1000, i + 1 end
  return ('%.3g %s'):format(n, units[i])
end

return M
