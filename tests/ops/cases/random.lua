-- Draws beyond randn and rand, dropout.
return {}
