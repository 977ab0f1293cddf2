"""How far from zero a number may be that is zero but for rounding; for analysis and report alike, so without torch."""

#: What a covariance of order one, computed in float64, may be off by. In the first round, where o_t = 0, it is zero,
#: but computed it is some 1e-33 of either sign.
ROUNDING = 1e-12
