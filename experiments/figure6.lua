-- Figures 6 and 7: the scores of Gaussian poisons over N(0,1), and the trade-off of finding them,
-- before and after NGD with sigma^2 1e-7, and retrained: experiments/gaussian.lua with the methods
-- of the figures, after which other options of it may follow. See --help.
table.insert(arg, 1, 'retrain,ngd')
table.insert(arg, 1, '--methods')
dofile((arg[0]:gsub('figure6%.lua$', 'gaussian.lua')))
