"""The parts of a training run, leaf to whole: `settings` (what a recipe says), `schedule` (what a step asks for), `objective` (roll-out and loss),
`own_reader` (a reader in a file of yours), `start` (first weights), `sources` (from folders to clips), `loading` (batches), `held_out` (scores on the
way), `run_folder` (what is kept), `stopping` (signals). The loop itself is `tmrn_edu/train.py`.
"""
