-- Normalisation.
return {}
