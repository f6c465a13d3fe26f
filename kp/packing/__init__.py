"""`kp pack`: from a table of facts to one adapter that packs them with no harm beyond a margin, or to the statement why there is none.

It is a study like any other, whose file kp.packing.study_file writes; this room says which facts are trained, kept apart and replayed,
which trial and which scale is taken, and what is left for its user.
"""
