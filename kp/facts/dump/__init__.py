"""Knowledge-graph dumps: from N-Triples or N-Quads of any size to facts by the head-to-tail method (Sun et al. 2023, arXiv 2308.10168).

Reading and choosing are two steps with a folder of parquet files between them: `reading.read_graph` reads the dump once and writes the
reduced graph (single-valued pairs with the popularity of their subjects, counts per relation, lines that were set aside).
`facts.facts_of_graph` draws the facts of a study from that folder, without the dump, whenever settings or seed change.
"""
