"""Recipes: one runnable file per shipped network. `tmrn-edu train stcn_tiny --steps=200`, or `python -m tmrn_edu.recipes.stcn_tiny`."""
