"""Ways to results that skip what an earlier run has settled, from one step to a whole program."""
