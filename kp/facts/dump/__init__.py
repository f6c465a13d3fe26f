"""Knowledge-graph dumps: from N-Triples of any size to facts by the head-to-tail method (Sun et al. 2023, arXiv 2308.10168).

Reading and choosing are two steps with a folder of parquet between them: `reading.read_graph` goes over the dump once and leaves what
later questions need (single-valued pairs with the popularity of their subjects, counts per relation, what was set aside);
`facts.facts_of_graph` draws the facts of a study out of that folder, as often as settings or seed change, without the dump.
"""
