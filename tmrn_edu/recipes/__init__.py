"""Recipes: one runnable file a run, by name: `tmrn-edu train stcn_tiny --steps=200`.

{stm,stcn,xmem}_static, _video   the two published stages at full size; tmrn_..., with TMRN's reader
{stm,stcn,xmem}_small            both stages in small, one after the other, on two CPU cores; tmrn_...; the stages alone: ..._static_small
{stm,stcn,xmem}_tiny, ...        the networks shipped in the package
"""
