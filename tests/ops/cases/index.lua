-- Gather, scatter and their kin.
return {}
