-- Optimiser steps.
return {}
