"""All stages in running order; graph, plan, run and report loop over this registry, and nothing else enumerates the stages."""

from kp.study.stage import Stage
from kp.study.stages.categorise import Categorise
from kp.study.stages.dump import Dump
from kp.study.stages.evaluate import Evaluate
from kp.study.stages.facts import Facts
from kp.study.stages.paraphrases import Paraphrases
from kp.study.stages.parts import Parts
from kp.study.stages.repeat import Repeat
from kp.study.stages.replay_categorise import ReplayCategorise
from kp.study.stages.replay_facts import ReplayFacts
from kp.study.stages.report import Report
from kp.study.stages.samples import Samples
from kp.study.stages.search import Search

SEARCH = Search()
STAGES: tuple[Stage, ...] = (
    Dump(),
    Facts(),
    ReplayFacts(),
    Paraphrases(),
    Categorise(),
    Repeat(),
    Samples(),
    Parts(),
    ReplayCategorise(),
    SEARCH,
    Evaluate(),
    Report(),
)
