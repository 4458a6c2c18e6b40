-- Figures 6 and 7: the scores of Gaussian poisons over N(0,1), and the trade-off of finding them,
-- before and after NGD with sigma^2 1e-7, and retrained: experiments/gaussian.lua with the methods
-- of the figures, at the small scale of the other figures. See --help.
local experiment = require 'vestige.experiment'

local run = assert(loadfile((arg[0]:gsub('figure6%.lua$', 'gaussian.lua'))))
run {
  usage = 'vestige experiments/figure6.lua', methods = { 'retrain', 'ngd' },
  small = experiment.small(),
}
