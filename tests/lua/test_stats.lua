-- vestige.stats against SciPy's values (tests/golden/stats.lua), by simulation, and on bad input.
-- luacheck: globals TestGolden TestSamples TestAudit TestEdges TestExamples
local lu = require 'luaunit'
local stats = require 'vestige.stats'
local golden = dofile((arg and arg[0] or ''):gsub('lua[/\\][^/\\]*$', '') .. 'golden/stats.lua')
local cases = golden.cases

local TOLERANCE = 1e-10

local function relative(a, b)
  if a == b then return 0 end
  return math.abs(a - b) / math.abs(b)
end

local function same(a, b, what)
  lu.assertTrue(relative(a, b) <= TOLERANCE,
    ('%s: got %.17g, expected %.17g (relative error %.2g)'):format(what or '', a, b,
      relative(a, b)))
end

local function raises(message, f, ...)
  local ok, err = pcall(f, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(err, message)
  lu.assertStrContains(err, 'test_stats.lua:') -- the caller's line, not the library's
end

TestGolden = {}

for name, rows in pairs(golden.rows) do
  TestGolden['test_' .. name] = function()
    local worst, at = 0, nil
    for _, row in ipairs(rows) do
      local value = row[#row]
      local e = relative(stats[name](unpack(row, 1, #row - 1)), value)
      if not (e <= worst) then worst, at = e, row end -- luacheck: ignore 581
    end
    if os.getenv 'VESTIGE_STATS_ERRORS' then
      print(('%-16s %3d rows, worst %.2g at %s'):format(name, #rows, worst,
        at and table.concat(at, ' ') or '-'))
    end
    lu.assertTrue(worst <= TOLERANCE,
      ('%s: relative error %.2g at %s'):format(name, worst, table.concat(at or {}, ' ')))
  end
end

TestSamples = {}

function TestSamples.test_moments()
  same(stats.mean(cases.x), cases.moments[1], 'mean')
  same(stats.var(cases.x), cases.moments[2], 'var')
  same(stats.sd(cases.x), math.sqrt(cases.moments[2]), 'sd')
  same(stats.quantile(cases.x, 0.3), cases.moments[3], 'quantile')
  local far = {}
  for i, v in ipairs(cases.x) do far[i] = v + 1e9 end
  same(stats.var(far), cases.var_offset[1], 'var far from zero')
  same(stats.var { 1e15, 1e15, 1e15 + 1 }, 1 / 3, 'var where the mean rounds')
  lu.assertEquals(stats.sum {}, 0)
end

function TestSamples.test_t()
  for name, alternative in pairs { two = 'two-sided', less = 'less', greater = 'greater' } do
    local r = stats.t_test(cases.x, { mu = 0.2, alternative = alternative })
    same(r.t, cases['t_test_' .. name][1], 't')
    same(r.p, cases['t_test_' .. name][2], 'p ' .. alternative)
  end
  local r = stats.paired_t_test(cases.x, cases.y, { level = 0.9 })
  same(r.t, cases.paired[1], 'paired t')
  same(r.p, cases.paired[2], 'paired p')
  same(r.lo, cases.paired[3], 'paired lo')
  same(r.hi, cases.paired[4], 'paired hi')
  local first = {}
  for i = 1, #cases.pos do first[i] = cases.neg[i] end
  for name, rho in pairs { spearman = stats.spearman(cases.x, cases.y),
                           spearman_ties = stats.spearman(cases.pos, first) } do
    same(rho.estimate, cases[name][1], name)
    same(rho.p, cases[name][2], name .. ' p')
  end
  local interval = stats.t_interval(cases.x)
  same(interval.lo, cases.t_interval[1], 'lo')
  same(interval.hi, cases.t_interval[2], 'hi')
  lu.assertEquals(stats.t_test { 2, 2, 2 }.p, 0)
  lu.assertEquals(stats.t_test({ 2, 2, 2 }, { mu = 2 }).p, 1)
end

function TestSamples.test_z_and_sum_of_squares()
  local z, s = stats.z_test(cases.x), stats.sum_squares_test(cases.x)
  same(z.z, cases.z_test[1], 'z')
  same(z.p, cases.z_test[2], 'p of z')
  lu.assertEquals(z.n, 12)
  same(s.statistic, cases.sum_squares[1], 'sum of squares')
  same(s.p, cases.sum_squares[2], 'p of the sum of squares')
  lu.assertEquals(stats.z_test({ 2 }, { mu = 2, sigma = 3 }).p, 1)
end

function TestSamples.test_binomial()
  for name, alternative in pairs { two = 'two-sided', less = 'less', greater = 'greater' } do
    for i = 1, 6 do
      local k, n, p, value = unpack(cases['binom_test_' .. name .. '_' .. i])
      same(stats.binom_test(k, n, p, { alternative = alternative }).p, value,
        ('binom_test %d of %d, %s'):format(k, n, alternative))
    end
  end
  for i = 1, 4 do
    local k, n, level, lo, hi, wilson_lo, wilson_hi = unpack(cases['proportion_' .. i])
    local exact, wilson = stats.clopper_pearson(k, n, { level = level }),
      stats.wilson(k, n, { level = level })
    same(exact.lo, lo, 'Clopper-Pearson lo')
    same(exact.hi, hi, 'Clopper-Pearson hi')
    if k > 0 then same(wilson.lo, wilson_lo, 'Wilson lo') else lu.assertEquals(wilson.lo, 0) end
    same(wilson.hi, wilson_hi, 'Wilson hi')
  end
  lu.assertAlmostEquals(stats.wilson(8, 8).lo, 0.68, 0.005) -- as the protocol quotes it
  lu.assertEquals(stats.mcnemar(0, 0).p, 1)
  lu.assertEquals(stats.mcnemar(4, 4).p, 1)
  for _, n in ipairs { 8, 31, 200 } do -- at 1/2 the mirror of k is as likely as k
    for k = 0, math.floor((n - 1) / 2) do
      local p = 2 * stats.binom_cdf(k, n, 0.5)
      same(stats.binom_test(k, n).p, math.min(1, p), 'left')
      same(stats.binom_test(n - k, n).p, math.min(1, p), 'right')
      same(stats.mcnemar(k, n - k).p, math.min(1, p), 'McNemar')
    end
  end
end

function TestSamples.test_equivalence()
  local z, t = stats.tost_z(0.1, 0.12, 0.3), stats.tost_t(cases.x, 1)
  same(z.p_lower, cases.tost_z[1], 'p_lower')
  same(z.p_upper, cases.tost_z[2], 'p_upper')
  lu.assertEquals(z.p, math.max(z.p_lower, z.p_upper))
  same(t.p_lower, cases.tost_t[1], 't p_lower')
  same(t.p_upper, cases.tost_t[2], 't p_upper')
  -- The interval at 1 - 2 alpha is inside the margin exactly where the test says so.
  for i = -20, 20 do
    local r = stats.tost_z(i / 20, 0.3, 1)
    lu.assertEquals(r.equivalent, r.lo > -1 and r.hi < 1)
  end
end

function TestSamples.test_holm()
  lu.assertEquals(stats.holm {}, {})
  lu.assertEquals(stats.holm { 0.5 }, { 0.5 })
  local a = stats.holm { 0.8, 0.01, 0.02, 0.7, 0.02 }
  for i, v in ipairs { 1, 0.05, 0.08, 1, 0.08 } do lu.assertAlmostEquals(a[i], v, 1e-15) end
end

function TestSamples.test_ks()
  local r = stats.ks_test(cases.long)
  same(r.d, cases.ks_test[1], 'd')
  same(r.p, cases.ks_test[2], 'p')
  lu.assertEquals(stats.ks_test({ 2.1, 2 }).d, stats.normal_cdf(2)) -- above the steps
  same(stats.ks_test({ -2.1, -2 }).d, stats.normal_cdf(2), 'below the steps')
end

function TestSamples.test_ks_expansion_meets_exact()
  -- Neighbours in n on both sides of the switch to the expansion, and in d on both sides of the
  -- switch to the tail.
  for _, z in ipairs { 0.4, 0.8, 1.3, 1.9 } do
    local a, b = stats.ks_cdf(z / math.sqrt(1000), 1000), stats.ks_cdf(z / math.sqrt(1001), 1001)
    lu.assertAlmostEquals(a, b, 1e-5)
  end
  for _, n in ipairs { 20, 900, 5000 } do
    local d = 2 / math.sqrt(n)
    lu.assertAlmostEquals(stats.ks_sf(d * (1 - 1e-9), n) / stats.ks_sf(d * (1 + 1e-9), n), 1, 1e-6)
  end
end

function TestSamples.test_auc()
  local r = stats.auc(cases.pos, cases.neg)
  same(r.estimate, cases.auc[1], 'auc')
  same(r.se, cases.auc[2], 'se')
  same(r.lo, cases.auc[3], 'lo')
  same(r.hi, cases.auc[4], 'hi')
  local apart = stats.auc({ 3, 4, 5, 6 }, { 0, 1, 2 })
  lu.assertEquals({ apart.estimate, apart.hi, apart.method }, { 1, 1, 'separated' })
  same(apart.lo, 0.025^(1 / 3), 'lo of separated samples')
  lu.assertEquals(stats.auc({ 1, 1 }, { 1, 1, 1 }).estimate, 0.5)
  lu.assertEquals(stats.auc({ 0, 0 }, { 1, 1, 1 }).estimate, 0)
end

function TestSamples.test_roc()
  local r = stats.roc(cases.pos, cases.neg)
  local area = 0
  for i = 2, #r.fpr do
    lu.assertTrue(r.threshold[i] < r.threshold[i - 1])
    area = area + (r.fpr[i] - r.fpr[i - 1]) * (r.tpr[i] + r.tpr[i - 1]) / 2
  end
  same(area, cases.auc[1], 'area under roc')
  lu.assertEquals({ r.fpr[#r.fpr], r.tpr[#r.tpr] }, { 1, 1 })
  for _, fpr in ipairs { 0, 0.01, 0.1, 0.5, 1 } do
    local at = stats.tpr_at_fpr(cases.pos, cases.neg, fpr)
    lu.assertTrue(at.fpr <= fpr)
    local best = 0 -- the best point of the curve that keeps to fpr
    for i = 1, #r.fpr do
      if r.fpr[i] <= fpr then best = math.max(best, r.tpr[i]) end
    end
    lu.assertEquals(at.estimate, best)
  end
end

function TestSamples.test_sign_flip()
  local ten = {}
  for i = 1, 10 do ten[i] = cases.x[i] end
  same(stats.sign_flip_test(ten).p, cases.sign_flip[1], 'sign flip')
  -- Its floor is 2/2^n.
  lu.assertEquals(stats.sign_flip_test({ 1, 2, 3, 4, 5, 6 }).p, 2 / 2^6)
  lu.assertEquals(stats.sign_flip_test({ 0, 0, 0 }).p, 1)
  -- Sums that tie in whole numbers tie in tenths.
  lu.assertEquals(stats.sign_flip_test({ 0.1, 0.6, 0.9, -0.1, -0.8 }).p,
    stats.sign_flip_test({ 1, 6, 9, -1, -8 }).p)
  local sixteen, more = {}, {}
  for i = 1, 16 do sixteen[i] = cases.long[i] + 0.3 end
  for i = 1, 17 do more[i] = sixteen[i] or 0 end -- a zero changes nothing
  local exact = stats.sign_flip_test(sixteen)
  local random = stats.sign_flip_test(more, { rng = stats.xorshift(3) })
  lu.assertTrue(exact.exact and not random.exact)
  lu.assertAlmostEquals(random.p, exact.p, 4 * math.sqrt(exact.p * (1 - exact.p) / 10000))
  for i = 1, 60 do more[i] = 1 end -- the observed signs count: p is never 0
  lu.assertEquals(stats.sign_flip_test(more, { rng = stats.xorshift(3), draws = 199 }).p, 1 / 200)
end

TestAudit = {}

function TestAudit.test_thresholds_and_curves()
  lu.assertAlmostEquals(stats.gus_threshold(0.01), 2.576, 5e-4)
  lu.assertAlmostEquals(stats.gus_threshold(0.01, { side = 'signed' }), 2.326, 5e-4)
  local expected = { -- mu, signed, two-sided
    { 0.5, 0.034, 0.020 }, { 1, 0.092, 0.058 }, { 1.5, 0.204, 0.141 }, { 2, 0.372, 0.282 },
    { 3, 0.750, 0.664 },
  }
  for _, row in ipairs(expected) do
    lu.assertAlmostEquals(stats.tpr_curve(row[1], 0.01, { side = 'signed' }), row[2], 5e-4)
    lu.assertAlmostEquals(stats.tpr_curve(row[1], 0.01), row[3], 5e-4)
    lu.assertEquals(stats.tpr_curve(row[1], 0.01), stats.tpr_curve(-row[1], 0.01))
  end
  for _, fpr in ipairs { 0, 1e-6, 0.3, 1 } do same(stats.tpr_curve(0, fpr), fpr, 'mu = 0') end
end

-- Standard normal numbers from a fixed seed.
local function normals(seed)
  local rng = stats.xorshift(seed)
  return function() return stats.normal_quantile((rng() * 2^32 + 0.5) / 2^32) end, rng
end

function TestAudit.test_coverage_of_planted_means()
  -- A planted mu of 0.5, 1, 2: over 1,000 audits of 40 canaries the 95 % interval holds mu in 950,
  -- within three standard errors (20.7), the mean has no bias, and TPR follows its curve.
  local normal = normals(11)
  local draws, n = 1000, 40
  for _, mu in ipairs { 0.5, 1, 2 } do
    local inside, exact, total, hits = 0, 0, 0, 0
    for _ = 1, draws do
      local I = {}
      for i = 1, n do I[i] = normal() - mu end
      local r = stats.z_test(I)
      if r.lo <= -mu and -mu <= r.hi then inside = inside + 1 end
      total = total + r.estimate
      local tpr = stats.gus_tpr(I, 0.01, { side = 'signed' })
      local truth = stats.tpr_curve(mu, 0.01, { side = 'signed' })
      hits = hits + tpr.estimate
      if tpr.lo <= truth and truth <= tpr.hi then exact = exact + 1 end
    end
    lu.assertAlmostEquals(inside, 950, 21)
    lu.assertAlmostEquals(total / draws, -mu, 3 / math.sqrt(draws * n))
    lu.assertTrue(exact >= 950 - 21) -- Clopper-Pearson covers at least its level
    local truth = stats.tpr_curve(mu, 0.01, { side = 'signed' })
    lu.assertAlmostEquals(hits / draws, truth, 3 * math.sqrt(truth * (1 - truth) / (draws * n)))
  end
end

function TestAudit.test_coverage_of_remaining_signal()
  local normal, rng = normals(5)
  local inside, draws = 0, 300
  for _ = 1, draws do
    local before, after = {}, {}
    for i = 1, 200 do
      local shared = normal()
      before[i] = 0.8 * shared + 0.6 * normal() - 1
      after[i] = 0.8 * shared + 0.6 * normal() - 0.4
    end
    local r = stats.remaining_signal(before, after, { rng = rng, draws = 400 })
    if r.lo <= 0.4 and 0.4 <= r.hi then inside = inside + 1 end
  end
  lu.assertAlmostEquals(inside / draws, 0.95, 3 * math.sqrt(0.95 * 0.05 / draws))
end

function TestAudit.test_generator_is_uniform_and_normal()
  local normal = normals(2)
  local x = {}
  for i = 1, 5000 do x[i] = normal() end
  lu.assertTrue(stats.ks_test(x).p > 0.01)
  for i = 1, 5000 do x[i] = x[i] * 1.1 end
  lu.assertTrue(stats.ks_test(x).p < 0.01)
end

function TestAudit.test_coverage_of_auc()
  local normal = normals(8)
  local inside, draws = 0, 1000
  local truth = stats.normal_cdf(1 / math.sqrt(2))
  for _ = 1, draws do
    local positives, negatives = {}, {}
    for i = 1, 60 do positives[i] = normal() + 1 end
    for i = 1, 80 do negatives[i] = normal() end
    local r = stats.auc(positives, negatives)
    if r.lo <= truth and truth <= r.hi then inside = inside + 1 end
  end
  lu.assertAlmostEquals(inside, 945, 27) -- DeLong's is a little short at this size
end

TestEdges = {}

function TestEdges.test_ends_of_the_ranges()
  local inf = math.huge
  local table_of_ends = {
    { stats.gammainc(2, 0), 0 }, { stats.gammaincc(2, 0), 1 }, { stats.gammainc(2, inf), 1 },
    { stats.gammaincinv(2, 0), 0 }, { stats.gammaincinv(2, 1), inf },
    { stats.gammainccinv(2, 1), 0 },
    { stats.betainc(2, 3, 0), 0 }, { stats.betainc(2, 3, 1), 1 }, { stats.betaincinv(2, 3, 0), 0 },
    { stats.betaincinv(2, 3, 1), 1 }, { stats.normal_cdf(-inf), 0 }, { stats.normal_cdf(inf), 1 },
    { stats.normal_quantile(0), -inf }, { stats.normal_quantile(1), inf },
    { stats.normal_quantile(0.5), 0 }, { stats.t_cdf(-inf, 3), 0 }, { stats.t_cdf(inf, 3), 1 },
    { stats.t_cdf(0, 3), 0.5 }, { stats.t_quantile(0, 3), -inf }, { stats.t_quantile(1, 3), inf },
    { stats.t_quantile(0.5, 3), 0 }, { stats.chi2_cdf(-1, 3), 0 }, { stats.chi2_sf(inf, 3), 0 },
    { stats.f_cdf(-1, 2, 3), 0 }, { stats.f_sf(inf, 2, 3), 0 }, { stats.binom_cdf(-1, 5, 0.5), 0 },
    { stats.binom_cdf(5, 5, 0.5), 1 }, { stats.binom_pmf(1.5, 5, 0.5), 0 },
    { stats.binom_pmf(0, 5, 0), 1 }, { stats.binom_pmf(5, 5, 1), 1 },
    { stats.binom_pmf(0, 0, 0.5), 1 },
    { stats.ks_cdf(0, 5), 0 }, { stats.ks_cdf(1, 5), 1 }, { stats.kolmogorov_cdf(0), 0 },
    { stats.normal_cdf(-50), 0 }, { stats.gammaincc(1, 800), 0 },
  }
  for i, pair in ipairs(table_of_ends) do lu.assertEquals(pair[1], pair[2], 'row ' .. i) end
  same(stats.t_sf(2, inf), stats.normal_sf(2), 't with infinite df')
  same(stats.t_sf(2, 1e12), stats.normal_sf(2), 't with large df')
end

function TestEdges.test_inverses_round_trip()
  local rng = stats.xorshift(9)
  for _ = 1, 500 do
    local a, b = 10^(rng() * 7 - 2), 10^(rng() * 7 - 2)
    local p = rng() < 0.5 and rng() or 10^(-20 * rng())
    local x = stats.gammaincinv(a, p)
    if x > 1e-290 then lu.assertAlmostEquals(stats.gammainc(a, x) / p, 1, 1e-9) end
    x = stats.betaincinv(a, b, p)
    if x > 1e-290 and x < 0.99 then
      lu.assertAlmostEquals(stats.betainc(a, b, x) / p, 1, 1e-9)
    end
    lu.assertAlmostEquals(stats.t_cdf(stats.t_quantile(p, a + 0.5), a + 0.5) / p, 1, 1e-9)
  end
end

function TestEdges.test_bad_arguments()
  raises('stats.gammainc: a must be a number from 1e-10 to 1e+12, got -1', stats.gammainc, -1, 2)
  raises('stats.gammainc: x must be a number >= 0, got nothing', stats.gammainc, 1)
  raises('stats.betainc: x must be a number from 0 to 1, got 1.5', stats.betainc, 1, 1, 1.5)
  raises('stats.normal_cdf: x must be a number, got "0"', stats.normal_cdf, '0')
  raises('stats.normal_cdf: x must be a number, got', stats.normal_cdf, 0 / 0)
  raises('stats.normal_quantile: p must be a number from 0 to 1, got 2', stats.normal_quantile, 2)
  raises('stats.t_cdf: df must be a number from 1e-10 to inf, got 0', stats.t_cdf, 1, 0)
  raises('stats.binom_cdf: n must be a whole number >= 0, got 1.5', stats.binom_cdf, 1, 1.5, 0.5)
  raises('stats.mean: x must hold at least 1 number, got 0', stats.mean, {})
  raises('stats.var: x must hold at least 2 numbers, got 1', stats.var, { 1 })
  raises('stats.mean: x[2] must be a finite number, got "b"', stats.mean, { 1, 'b' })
  raises('stats.mean: x[2] must be a finite number, got inf', stats.mean, { 1, math.huge })
  raises('stats.mean: x must be an array of numbers, got 3', stats.mean, 3)
  raises('x and y are paired and must have the same length, got 2 and 3', stats.paired_t_test,
    { 1, 2 }, { 1, 2, 3 })
  raises('no option "levle" (did you mean "level"?)', stats.t_test, { 1, 2 }, { levle = 0.9 })
  raises('stats.t_test: options must be a table, got 3', stats.t_test, { 1, 2 }, 3)
  raises('stats.t_test: level must be a number between 0 and 1, got 95', stats.t_test, { 1, 2 },
    { level = 95 })
  raises('alternative must be "two-sided" or "less" or "greater", got "both"', stats.t_test,
    { 1, 2 }, { alternative = 'both' })
  raises('stats.holm: p[2] must be a number from 0 to 1, got 1.2', stats.holm, { 0.1, 1.2 })
  raises('stats.wilson: k must be a whole number from 0 to 4, got 5', stats.wilson, 5, 4)
  raises('stats.clopper_pearson: n must be a whole number >= 1, got 0', stats.clopper_pearson, 0, 0)
  raises('stats.mcnemar: c must be a whole number >= 0, got -1', stats.mcnemar, 1, -1)
  raises('stats.tost_z: margin must be a finite number > 0, got 0', stats.tost_z, 0, 1, 0)
  raises('stats.tost_t: x must hold values that differ, got 3', stats.tost_t, { 1, 1, 1 }, 1)
  raises('stats.bootstrap: rng must be a function, got a boolean', stats.bootstrap, 5,
    function() return 1 end)
  raises('rng must return numbers in [0, 1), it returned 1', stats.bootstrap, 5,
    function() return 1 end, { rng = function() return 1 end })
  raises('stats.gus_threshold: side must be "abs" or "signed", got "both"', stats.gus_threshold,
    0.01, { side = 'both' })
  raises('stats.auc: negatives must hold at least 2 numbers, got 0', stats.auc, { 1, 2 }, {})
end

-- The lines of the doc blocks that start with > are programs.
TestExamples = {}

local function examples(path)
  local found, chunk, at, n = {}, nil, nil, 0
  for line in io.lines(path) do
    n = n + 1
    local code = line:match('^%-%-%- > ?(.*)$')
    if code then
      chunk, at = (chunk and chunk .. '\n' or '') .. code, at or n
    elseif chunk then
      found[#found + 1] = { code = chunk, at = path .. ':' .. at }
      chunk, at = nil, nil
    end
  end
  return found
end

function TestExamples.test_all()
  local paths = { 'verdict' }
  for _, part in ipairs { 'special', 'dist', 'inference', 'resample', 'roc', 'audit' } do
    paths[#paths + 1] = 'stats/' .. part
  end
  local count, failed = 0, {}
  for _, name in ipairs(paths) do
    local path = assert(package.searchpath('vestige/' .. name, package.path))
    for _, e in ipairs(examples(path)) do
      local run = assert(loadstring(e.code, '=' .. e.at))
      setfenv(run, setmetatable({ stats = stats, verdict = require 'vestige.verdict' },
        { __index = _G }))
      local ok, err = pcall(run)
      if not ok then failed[#failed + 1] = err end
      count = count + 1
    end
  end
  lu.assertEquals(failed, {})
  local public = 2 -- of verdict
  for _ in pairs(stats) do public = public + 1 end
  lu.assertEquals(count, public) -- every function has one
end

os.exit(lu.LuaUnit.run())
