import pytest

from kp import schema
from kp.mixtures import Mixture, draw_rows
from kp.trial_jobs import probe_facts
from kp.vocabulary import Draw, ReplayTarget
from tests.made_up_study import categories, facts, frame_of


def rows_of(unknown: int, maybe_known: int = 0) -> tuple[list[str], object]:
    mixture = Mixture(unknown, 0, maybe_known, 1, 0, Draw.STRATIFIED, ReplayTarget.GOLD, seed=3)
    rows = draw_rows(mixture, facts(), categories(0, "base", "S0", "strict"), frame_of([], schema.ANSWERS))
    probed = probe_facts(facts().to_arrow().cast(schema.FACTS), rows, 5)
    return rows.filter(role="unknown")["fact_id"].to_list(), probed["fact_id"].to_pylist()


def test_probe_facts_are_the_first_drawn_and_the_same_for_every_mix_and_size() -> None:
    drawn, probed = rows_of(20)
    assert probed == drawn[:5]
    assert rows_of(20, maybe_known=1)[1] == probed
    assert rows_of(40)[1] == probed


@pytest.mark.parametrize("most", [None, 20, 21])
def test_probe_facts_without_a_limit_below_are_all_that_were_trained(most: int | None) -> None:
    mixture = Mixture(20, 0, 0, 0, 0, Draw.STRATIFIED, ReplayTarget.GOLD, seed=3)
    rows = draw_rows(mixture, facts(), categories(0, "base", "S0", "strict"), frame_of([], schema.ANSWERS))
    probed = probe_facts(facts().to_arrow().cast(schema.FACTS), rows, most)
    assert probed["fact_id"].to_pylist() == rows["fact_id"].to_list()
    assert probed.schema == schema.FACTS
